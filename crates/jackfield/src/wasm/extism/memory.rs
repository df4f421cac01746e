//! Extism's memory, in which a guest and its host pass things to each other: which bytes of it are what.
//!
//! The bytes are the linear memory of a [kernel](super::kernel), which the guest reads and writes by the kernel's
//! functions alone. In front lies a header, which says what they may reach; then the call's input; then blocks.
//! Only the host writes to the header and the input. A handle is a block's position in that memory; it depends on
//! the length of the input.
//!
//! What a guest says of it, an offset or a length, is a claim: everything here checks it, and nothing here
//! takes room for blocks that the plugin's `memory_bytes` does not allow. The blocks are forgotten with each
//! call, and the bytes of a new one are zeros. A linear memory cannot shrink: what the largest call of an instance
//! has taken is its for as long as it exists, as with the guest's own memory.
//!
//! Blocks lie one after the other, and a freed one is used again if it is the last, or one of the last few
//! that were freed. That is enough for what guests do in one call, and each step costs the same however
//! many blocks there are.

use jackfield_protocol::call::Cause;
use wasmtime::{AsContext, AsContextMut};

use super::super::guest::Guest;
use crate::host_function::Blocks;

/// The header, as `kernel.wat` has it: five numbers of 64 bits.
const HEADER_BYTES: usize = 40;

/// Freed blocks that are remembered for being used again.
const FREED_KEPT: usize = 8;

/// Bytes of the table of blocks that are kept from call to call.
const KEPT_BYTES: usize = 1 << 20;

const PAGE_BYTES: usize = 64 << 10;

/// The blocks of one instance, and where their bytes lie.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// None for a plugin that imports nothing by which it could see it.
    linear: Option<wasmtime::Memory>,
    /// Length of the input.
    input: usize,
    /// Bytes of blocks that had room in this call.
    bytes: usize,
    /// In the order in which they lie.
    blocks: Vec<Block>,
    /// Positions of blocks that were freed.
    freed: Vec<usize>,
    /// Bytes the blocks may have, their table included.
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// Position behind where the blocks begin.
    start: usize,
    /// Length as it was asked for; 0 once it is free.
    len: usize,
    /// Bytes up to the next block.
    room: usize,
}

/// Where a new block goes.
enum Place {
    /// It is there already.
    Again(u64),
    /// Behind all others.
    Behind(Block),
}

/// A range that is not within the memory.
#[derive(Debug, thiserror::Error)]
#[error("{len} bytes at offset {at} are not within the {bytes} bytes of Extism memory")]
pub(super) struct OutOfRange {
    at: u64,
    len: u64,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), ..Self::default() }
    }

    /// Says where its bytes lie: in a memory of the same store, of zeros.
    pub(super) fn lies_in(&mut self, linear: wasmtime::Memory) {
        self.linear = Some(linear);
    }

    /// All bytes of the linear memory that it lies in.
    pub(super) fn linear<'a>(&self, store: &'a impl AsContext<Data = Guest>) -> &'a [u8] {
        self.linear.map_or(&[], |linear| linear.data(store.as_context()))
    }

    /// Whether there is anything to forget.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.bytes > 0 || self.input > 0
    }

    /// Length of the input.
    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// Gives a block back. Its bytes stay readable until they are used again; what is no block is let be.
    pub(super) fn free(&mut self, handle: u64) {
        let Some(at) = self.find(handle) else { return };
        self.blocks[at].len = 0;
        if at + 1 < self.blocks.len() {
            if self.freed.len() == FREED_KEPT {
                self.freed.remove(0);
            }
            self.freed.push(at);
            return;
        }
        while self.blocks.last().is_some_and(|last| last.len == 0) {
            self.blocks.pop();
        }
    }

    /// The length of a block; 0 for what is none.
    #[inline]
    pub(super) fn length(&self, handle: u64) -> u64 {
        self.find(handle).map_or(0, |at| self.blocks[at].len as u64)
    }

    /// A range, of blocks or not, in the bytes of its [linear memory](Self::linear).
    pub(super) fn range<'a>(&self, linear: &'a [u8], at: u64, len: u64) -> Result<&'a [u8], OutOfRange> {
        self.check(at, len)?;
        if len == 0 {
            return Ok(&[]);
        }
        let start = usize::try_from(at).ok();
        let bytes = start.zip(usize::try_from(len).ok()).and_then(|(start, len)| linear.get(start..)?.get(..len));
        bytes.ok_or_else(|| self.out_of_range(at, len))
    }

    /// Whether a range, of blocks or not, is within it. One of no bytes is, wherever it lies.
    pub(super) fn check(&self, at: u64, len: u64) -> Result<(), OutOfRange> {
        // An offset before the first byte becomes one far behind the last.
        let from = at.wrapping_sub(self.origin() as u64);
        match len == 0 || from.checked_add(len).is_some_and(|end| end <= self.bytes as u64) {
            true => Ok(()),
            false => Err(self.out_of_range(at, len)),
        }
    }

    /// Bytes it may have.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    #[cold]
    pub(super) fn out_of_range(&self, at: u64, len: u64) -> OutOfRange {
        OutOfRange { at, len, bytes: self.bytes }
    }

    /// Forgets everything but how long the input is now.
    fn reset(&mut self, input: usize) {
        self.input = input;
        self.bytes = 0;
        self.blocks.clear();
        self.freed.clear();
        self.blocks.shrink_to(KEPT_BYTES / size_of::<Block>());
    }

    /// Where the blocks begin in the linear memory.
    #[inline]
    fn origin(&self) -> usize {
        HEADER_BYTES + self.input.next_multiple_of(8)
    }

    fn handle(&self, block: &Block) -> u64 {
        (self.origin() + block.start) as u64
    }

    /// Says in the header what the guest may reach.
    fn tell(&self, linear: &mut [u8]) {
        let words = |len: usize| len.saturating_sub(7);
        let header = [self.origin(), self.bytes, words(self.bytes), self.input, words(self.input)];
        let places = linear.as_chunks_mut::<8>().0;
        places.iter_mut().zip(header).for_each(|(place, number)| *place = (number as u64).to_le_bytes());
    }

    /// Where a block can be; none if it would be more than is allowed.
    fn place(&mut self, len: usize) -> Option<Place> {
        if let Some(handle) = self.reuse(len) {
            return Some(Place::Again(handle));
        }
        let start = self.blocks.last().map_or(0, |last| last.start + last.room);
        let room = len.checked_next_multiple_of(8)?;
        let table = size_of::<Block>().checked_mul(self.blocks.len() + 1)?;
        let bytes = start.checked_add(room)?.checked_add(table)?;
        (bytes <= self.bytes_max).then_some(Place::Behind(Block { start, len, room }))
    }

    fn reuse(&mut self, len: usize) -> Option<u64> {
        // What stands here may have been forgotten since with the blocks behind it.
        let free = |at: &usize| self.blocks.get(*at).is_some_and(|block| block.len == 0 && block.room >= len);
        let found = self.freed.iter().rposition(free)?;
        let at = self.freed.swap_remove(found);
        self.blocks[at].len = len;
        Some(self.handle(&self.blocks[at]))
    }

    #[inline]
    fn find(&self, handle: u64) -> Option<usize> {
        let start = usize::try_from(handle).ok()?.checked_sub(self.origin())?;
        let last = self.blocks.last()?;
        let at = match last.start == start {
            true => self.blocks.len() - 1,
            false => self.blocks.binary_search_by_key(&start, |block| block.start).ok()?,
        };
        (self.blocks[at].len > 0).then_some(at)
    }

    /// Where the bytes of a block lie in the linear memory.
    fn within(&self, handle: u64) -> Option<std::ops::Range<usize>> {
        let block = self.blocks[self.find(handle)?];
        let start = self.origin() + block.start;
        Some(start..start + block.len)
    }
}

/// The memory of a store's instance, with its bytes at hand.
pub(super) struct Arena<C>(pub(super) C);

impl<C: AsContext<Data = Guest>> Arena<C> {
    fn memory(&self) -> &Memory {
        &self.0.as_context().data().extism.memory
    }

    /// The bytes of a block; none if there is none of this handle.
    pub(super) fn block(&self, handle: u64) -> Option<&[u8]> {
        let memory = self.memory();
        memory.linear(&self.0).get(memory.within(handle)?)
    }
}

impl<C: AsContextMut<Data = Guest>> Arena<C> {
    /// Forgets everything, and has this input from now on.
    pub(super) fn begin(&mut self, input: &[u8]) -> Result<(), Cause> {
        if !self.has_bytes(HEADER_BYTES.saturating_add(input.len().next_multiple_of(8))) {
            let what = format!("its input of {} bytes has no room in Extism memory", input.len());
            return Err(Cause::Limit { limit: "memory", what });
        }
        let Some((linear, memory)) = self.parts() else { return Ok(()) };
        memory.reset(input.len());
        memory.tell(linear);
        linear[HEADER_BYTES..][..input.len()].copy_from_slice(input);
        Ok(())
    }

    /// Forgets everything, and has no input from now on.
    #[cold]
    pub(super) fn clear(&mut self) {
        let Some((linear, memory)) = self.parts() else { return };
        memory.reset(0);
        memory.tell(linear);
    }

    /// A new block; none if it would be more than is allowed. Its handle is its offset; 0 for no bytes.
    pub(super) fn alloc(&mut self, len: u64) -> Option<u64> {
        if len == 0 {
            return Some(0);
        }
        let len = usize::try_from(len).ok()?;
        let (_, memory) = self.parts()?;
        let block = match memory.place(len)? {
            Place::Again(handle) => return Some(handle),
            Place::Behind(block) => block,
        };
        let (origin, end) = (memory.origin(), block.start + block.room);
        if end > memory.bytes {
            if !self.has_bytes(origin.checked_add(end)?) {
                return None;
            }
            let (linear, memory) = self.parts()?;
            // What other calls left there is not this one's.
            linear[origin + memory.bytes..origin + end].fill(0);
            memory.bytes = end;
            memory.tell(linear);
        }
        let (_, memory) = self.parts()?;
        memory.blocks.push(block);
        Some(memory.handle(&block))
    }

    /// A new block with these bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        let handle = self.alloc(bytes.len() as u64)?;
        if handle != 0 {
            self.block_mut(handle)?.copy_from_slice(bytes);
        }
        Some(handle)
    }

    /// The bytes of a block, to be written to.
    fn block_mut(&mut self, handle: u64) -> Option<&mut [u8]> {
        let (linear, memory) = self.parts()?;
        linear.get_mut(memory.within(handle)?)
    }

    fn parts(&mut self) -> Option<(&mut [u8], &mut Memory)> {
        let linear = self.memory().linear?;
        let (bytes, guest) = linear.data_and_store_mut(self.0.as_context_mut());
        Some((bytes, &mut guest.extism.memory))
    }

    /// Whether there are so many bytes of linear memory, if there is any: grown, if there were less.
    fn has_bytes(&mut self, bytes: usize) -> bool {
        let Some(linear) = self.memory().linear else { return true };
        let lacking = bytes.saturating_sub(linear.data_size(&self.0));
        let pages = lacking.div_ceil(PAGE_BYTES) as u64;
        pages == 0 || Guest::unlimited(&mut self.0, |store| linear.grow(store, pages)).is_ok()
    }
}

impl<C: AsContextMut<Data = Guest>> Blocks for Arena<C> {
    fn block(&self, handle: u64) -> Option<&[u8]> {
        self.block(handle)
    }

    fn block_mut(&mut self, handle: u64) -> Option<&mut [u8]> {
        self.block_mut(handle)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        self.put(bytes)
    }

    fn free(&mut self, handle: u64) {
        self.0.as_context_mut().data_mut().extism.memory.free(handle);
    }

    fn bytes_max(&self) -> usize {
        self.memory().bytes_max()
    }
}

#[cfg(test)]
mod tests;

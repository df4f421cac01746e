//! Extism's memory: bytes that lie with the host, in which a guest and its host pass things to each other.
//!
//! What a guest says of it, an offset or a length, is a claim: everything here checks it, and nothing here
//! takes room that the plugin's `memory_bytes` does not allow. The memory is made anew for each call.
//!
//! Blocks lie one after the other, and a freed one is used again if it is the last, or one of the last few
//! that were freed. That is enough for what guests do in one call, and each step costs the same however
//! many blocks there are.

use crate::host_function::Blocks;

/// Offset of the first byte: 0 is null.
const FIRST: u64 = 8;

/// Freed blocks that are remembered for being used again.
const FREED_KEPT: usize = 8;

/// Room that is kept from call to call.
const KEPT_BYTES: usize = 1 << 20;

/// The memory of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// All bytes that had room in this call. The first has the offset [`FIRST`].
    bytes: Vec<u8>,
    /// In the order in which they lie.
    blocks: Vec<Block>,
    /// Positions of blocks that were freed.
    freed: Vec<usize>,
    /// Bytes it may have, the table of blocks included.
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// Position in `bytes`.
    start: usize,
    /// Length as it was asked for; 0 once it is free.
    len: usize,
    /// Bytes up to the next block.
    room: usize,
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

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.blocks.clear();
        self.freed.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.blocks.shrink_to(KEPT_BYTES / size_of::<Block>());
    }

    /// A new block; none if it would be more than is allowed. Its handle is its offset; 0 for no bytes.
    pub(super) fn alloc(&mut self, len: u64) -> Option<u64> {
        if len == 0 {
            return Some(0);
        }
        let len = usize::try_from(len).ok()?;
        if let Some(handle) = self.reuse(len) {
            return Some(handle);
        }
        let start = self.end();
        let room = len.checked_next_multiple_of(8)?;
        let end = start.checked_add(room)?;
        let table = size_of::<Block>().checked_mul(self.blocks.len() + 1)?;
        if end.checked_add(table)? > self.bytes_max {
            return None;
        }
        if end > self.bytes.len() {
            if end > self.bytes.capacity() {
                // Never more than is allowed, which doubling alone would take.
                let capacity = self.bytes.capacity().saturating_mul(2).clamp(end, self.bytes_max);
                self.bytes.try_reserve_exact(capacity - self.bytes.len()).ok()?;
            }
            self.bytes.resize(end, 0);
        }
        self.blocks.push(Block { start, len, room });
        Some(start as u64 + FIRST)
    }

    /// A new block with these bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        let handle = self.alloc(bytes.len() as u64)?;
        if let Some(place) = handle.checked_sub(FIRST) {
            let start = usize::try_from(place).ok()?;
            self.bytes.get_mut(start..start + bytes.len())?.copy_from_slice(bytes);
        }
        Some(handle)
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

    /// The bytes of a block; none for what is none.
    pub(super) fn block(&self, handle: u64) -> &[u8] {
        let block = self.find(handle).map(|at| self.blocks[at]);
        block.and_then(|block| self.bytes.get(block.start..block.start + block.len)).unwrap_or_default()
    }

    /// The same, to be written to.
    fn block_mut(&mut self, handle: u64) -> Option<&mut [u8]> {
        let block = self.blocks[self.find(handle)?];
        self.bytes.get_mut(block.start..block.start + block.len)
    }

    /// A range, of blocks or not.
    pub(super) fn range(&self, at: u64, len: u64) -> Result<&[u8], OutOfRange> {
        if len == 0 {
            return Ok(&[]);
        }
        let start = usize::try_from(at.wrapping_sub(FIRST)).ok();
        let bytes = start.zip(usize::try_from(len).ok()).and_then(|(start, len)| self.bytes.get(start..)?.get(..len));
        bytes.ok_or_else(|| self.out_of_range(at, len))
    }

    /// `N` bytes at an offset. Guests call this once for every eight bytes they read.
    #[inline]
    pub(super) fn load<const N: usize>(&self, at: u64) -> Result<[u8; N], OutOfRange> {
        // An offset before the first byte becomes one far behind the last.
        let bytes = usize::try_from(at.wrapping_sub(FIRST)).ok().and_then(|start| self.bytes.get(start..));
        match bytes.and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Ok(*bytes),
            None => Err(self.out_of_range(at, N as u64)),
        }
    }

    /// Writes `N` bytes at an offset. Guests call this once for every eight bytes they write.
    #[inline]
    pub(super) fn store<const N: usize>(&mut self, at: u64, bytes: [u8; N]) -> Result<(), OutOfRange> {
        let start = usize::try_from(at.wrapping_sub(FIRST)).ok();
        match start.and_then(|start| self.bytes.get_mut(start..)?.first_chunk_mut()) {
            Some(place) => {
                *place = bytes;
                Ok(())
            }
            None => Err(self.out_of_range(at, N as u64)),
        }
    }

    /// Bytes it may have.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Where the next block begins.
    fn end(&self) -> usize {
        self.blocks.last().map_or(0, |last| last.start + last.room)
    }

    fn reuse(&mut self, len: usize) -> Option<u64> {
        // What stands here may have been forgotten since with the blocks behind it.
        let free = |at: &usize| self.blocks.get(*at).is_some_and(|block| block.len == 0 && block.room >= len);
        let found = self.freed.iter().rposition(free)?;
        let at = self.freed.swap_remove(found);
        let block = &mut self.blocks[at];
        block.len = len;
        Some(block.start as u64 + FIRST)
    }

    #[inline]
    fn find(&self, handle: u64) -> Option<usize> {
        let start = usize::try_from(handle.checked_sub(FIRST)?).ok()?;
        let last = self.blocks.last()?;
        let at = match last.start == start {
            true => self.blocks.len() - 1,
            false => self.blocks.binary_search_by_key(&start, |block| block.start).ok()?,
        };
        (self.blocks[at].len > 0).then_some(at)
    }

    #[cold]
    fn out_of_range(&self, at: u64, len: u64) -> OutOfRange {
        OutOfRange { at, len, bytes: self.bytes.len() }
    }
}

impl Blocks for Memory {
    fn block(&self, handle: u64) -> Option<&[u8]> {
        self.find(handle).map(|_| self.block(handle))
    }

    fn block_mut(&mut self, handle: u64) -> Option<&mut [u8]> {
        self.block_mut(handle)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<u64> {
        self.put(bytes)
    }

    fn free(&mut self, handle: u64) {
        self.free(handle);
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_has_its_length_until_it_is_freed() {
        let mut memory = Memory::new(1 << 20);
        let (first, second) = (memory.alloc(5).expect("room"), memory.alloc(9).expect("room"));
        assert_eq!((memory.length(first), memory.length(second)), (5, 9));
        assert_eq!((memory.length(0), memory.length(first + 1), memory.length(u64::MAX)), (0, 0, 0));
        memory.free(first);
        assert_eq!((memory.length(first), memory.length(second)), (0, 9));
        memory.free(first);
        assert_eq!(memory.alloc(8), Some(first), "the room is used again");
        memory.free(second);
        assert_eq!(memory.put(b"again"), Some(second), "the end is used again");
        assert_eq!(memory.block(second), b"again");
        memory.reset();
        assert_eq!((memory.length(first), memory.length(second)), (0, 0));
    }

    #[test]
    fn what_is_claimed_of_it_is_checked() {
        let mut memory = Memory::new(1 << 20);
        let handle = memory.put(b"12345678").expect("room");
        assert_eq!(memory.load::<8>(handle).expect("within"), *b"12345678");
        assert_eq!(memory.range(handle + 2, 3).expect("within"), b"345");
        assert_eq!(memory.range(u64::MAX, 0).expect("nothing"), b"");
        for at in [0, 1, handle + 1, handle + 8, 1 << 40, u64::MAX, i64::MAX as u64, i64::MIN as u64] {
            assert!(memory.load::<8>(at).is_err(), "{at}");
            assert!(memory.store::<8>(at, [0; 8]).is_err(), "{at}");
        }
        for (at, len) in [(handle, 9), (handle, u64::MAX), (u64::MAX, u64::MAX), (0, 1), (handle + 8, 1)] {
            assert!(memory.range(at, len).is_err(), "{at} {len}");
        }
        assert_eq!(
            memory.load::<8>(4096).expect_err("outside").to_string(),
            "8 bytes at offset 4096 are not within the 8 bytes of Extism memory"
        );
    }

    #[test]
    fn no_more_room_is_taken_than_is_allowed() {
        let mut memory = Memory::new(4096);
        for len in [4097, 1 << 30, u64::MAX, i64::MIN as u64] {
            assert_eq!(memory.alloc(len), None);
        }
        assert!(memory.bytes.is_empty());
        // The table of blocks counts: a guest that wants single bytes gets not many of them.
        let blocks = (0..4096).map_while(|_| memory.alloc(1)).count();
        assert!((64..=128).contains(&blocks), "{blocks}");
        assert!(memory.bytes.capacity() <= 4096);
    }

    #[test]
    fn a_guest_that_frees_what_it_takes_never_runs_out() {
        let mut memory = Memory::new(4096);
        for _ in 0..10_000 {
            let (a, b, c) = (memory.alloc(40), memory.alloc(500), memory.alloc(30));
            let all = [a, b, c].map(|handle| handle.expect("room"));
            // First to last: only the last is at the end.
            all.into_iter().for_each(|handle| memory.free(handle));
        }
        assert!(memory.freed.len() <= FREED_KEPT);
    }

    proptest! {
        #[test]
        fn blocks_never_lie_over_each_other(steps in proptest::collection::vec((0..3u8, 0..200u64), 0..200)) {
            let mut memory = Memory::new(16 << 10);
            let mut live: Vec<(u64, Vec<u8>)> = Vec::new();
            for (number, (step, len)) in steps.into_iter().enumerate() {
                if step < 2 {
                    let bytes = vec![number as u8; len as usize];
                    match memory.put(&bytes) {
                        Some(0) | None => {}
                        Some(handle) => live.push((handle, bytes)),
                    }
                } else if !live.is_empty() {
                    let (handle, _) = live.remove(len as usize % live.len());
                    memory.free(handle);
                }
                for (handle, bytes) in &live {
                    prop_assert_eq!(memory.block(*handle), &bytes[..]);
                }
            }
        }
    }
}

//! The slots of a journal, mapped.

#![expect(unsafe_code, reason = "maps a file and refers to what is in it")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, ProtFlags};

use super::file::{HEADER_BYTES, NAME_BYTES, SLOT_BYTES, SLOTS, Use};

/// The bytes of a whole file.
pub(super) const FILE_BYTES: usize = HEADER_BYTES + SLOTS * SLOT_BYTES;

/// A slot as it is in the file. All zeros is a slot that is free. Only atomics, since the kernel may copy
/// the page at any time, and each is valid whatever its bytes are.
///
/// A cache line or two for itself, so that plugins do not slow each other down.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct Raw {
    leases: AtomicUsize,
    /// A [`Use`]; written last when a slot is taken, and first when it is given back.
    used: AtomicU32,
    name_bytes: AtomicU32,
    name: [AtomicU8; NAME_BYTES],
}

const _: () = assert!(size_of::<Raw>() == SLOT_BYTES && HEADER_BYTES.is_multiple_of(align_of::<Raw>()));

/// The offsets at which a reader of the file finds what is in a slot.
pub(super) const LEASES_AT: usize = std::mem::offset_of!(Raw, leases);
pub(super) const USED_AT: usize = std::mem::offset_of!(Raw, used);
pub(super) const NAME_BYTES_AT: usize = std::mem::offset_of!(Raw, name_bytes);
pub(super) const NAME_AT: usize = std::mem::offset_of!(Raw, name);

/// A file's slots in this process's memory. Unmapped when the last slot is given back.
#[derive(Debug)]
pub(super) struct Map {
    start: NonNull<u8>,
    /// Numbers of the slots that are free.
    free: Mutex<Vec<usize>>,
}

// SAFETY: `NonNull` is neither `Send` nor `Sync` since it may refer to anything. This one refers to a mapping
// that belongs to the process, not to a thread, and of which nothing but the atomics of `Raw` is used.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps a file of [`FILE_BYTES`], whose slots are all free.
    ///
    /// Its blocks must have been written, since a page that the disk has no room for ends the process when
    /// it is touched; and nobody may make it shorter, for the same reason. It lies in a directory of ours.
    pub(super) fn of(file: &File) -> io::Result<Arc<Self>> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: `mmap` requires that nothing of this program is where it maps: with a null address and
        // without `MapFlags::FIXED` the kernel takes a place that is free.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), FILE_BYTES, access, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("it was mapped at no address"))?;
        Ok(Arc::new(Self { start, free: Mutex::new((0..SLOTS).rev().collect()) }))
    }

    /// Takes a slot for a plugin, with no leases; none if all are taken or the name is too long for one.
    pub(super) fn take(self: &Arc<Self>, plugin: &str, used: Use) -> Option<Slot> {
        if plugin.len() > NAME_BYTES {
            return None;
        }
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        // SAFETY: `add` requires that the result is within the same mapping: `number` is below `SLOTS`, and
        // the mapping has `FILE_BYTES`, which is the header and as many slots.
        let raw = unsafe { self.start.add(HEADER_BYTES + number * SLOT_BYTES) }.cast();
        let slot = Slot { raw, number, map: Arc::clone(self) };
        slot.leases.store(0, Ordering::Relaxed);
        slot.name_bytes.store(plugin.len() as u32, Ordering::Relaxed);
        for (to, from) in slot.name.iter().zip(plugin.bytes()) {
            to.store(from, Ordering::Relaxed);
        }
        slot.used.store(used.number(), Ordering::Release);
        Some(slot)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: `munmap` requires that nothing refers to the mapping any more: every `Slot` holds an `Arc`
        // of this, and references into it are borrowed from a `Slot`. Start and length are those of `mmap`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), FILE_BYTES) };
    }
}

/// A slot that is taken. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Slot {
    raw: NonNull<Raw>,
    number: usize,
    map: Arc<Map>,
}

// SAFETY: as for `Map`, which it keeps: `raw` refers to atomics in a mapping of the process.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Deref for Slot {
    type Target = Raw;

    #[inline]
    fn deref(&self) -> &Raw {
        // SAFETY: `as_ref` requires (1) an aligned pointer: the mapping begins at a page, and the header and
        // each slot have lengths that are multiples of `Raw`'s alignment (asserted above); (2) a valid `Raw`
        // for as long as the reference: `map` keeps it mapped, every byte is initialized, being a file's, and
        // an atomic integer may have any value; (3) no exclusive reference to it: none is ever made.
        unsafe { self.raw.as_ref() }
    }
}

impl Slot {
    #[inline]
    pub(super) fn leases(&self) -> &AtomicUsize {
        &self.leases
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.used.store(Use::Free.number(), Ordering::Release);
        self.map.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

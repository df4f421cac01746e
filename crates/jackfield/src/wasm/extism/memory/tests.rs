//! Blocks, and what the kernel lets be read and written, in real stores.

use std::time::Duration;

use proptest::prelude::*;
use wasmtime::{Instance, Store, WasmParams, WasmResults};

use super::super::kernel::Kernel;
use super::super::{State, tests};
use super::*;

/// A kernel, called as a guest would call it.
struct Rig {
    arena: Arena<Store<Guest>>,
    kernel: Instance,
}

fn rig(bytes_max: u64) -> Rig {
    let (engine, _) = tests::compile("(module)");
    let mut spec = tests::spec();
    spec.limits.memory_bytes_max = bytes_max;
    let mut store = tests::store(&engine, &spec, State::new(&spec, false));
    // Its caller waits.
    store.data().watch.begin_here(Duration::from_secs(3600));
    let linked = Kernel::link(&engine).expect("a kernel");
    let kernel = linked.instantiate(&mut store).expect("an instance");
    // Calls of a test have their thread.
    store.data().watch.begin_here(std::time::Duration::from_secs(60));
    Rig { arena: Arena(store), kernel }
}

impl Rig {
    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, params: P) -> Result<R, String> {
        let function = self.kernel.get_typed_func::<P, R>(&mut self.arena.0, name).expect("a function");
        function.call(&mut self.arena.0, params).map_err(|error| error.root_cause().to_string())
    }

    fn length(&self, handle: u64) -> u64 {
        self.arena.memory().length(handle)
    }

    fn free(&mut self, handle: u64) {
        Blocks::free(&mut self.arena, handle);
    }

    fn begin(&mut self, input: &[u8]) {
        self.arena.begin(input).expect("room");
    }

    /// The whole linear memory.
    fn linear(&self) -> Vec<u8> {
        self.arena.memory().linear(&self.arena.0).to_vec()
    }
}

#[test]
fn a_block_has_its_length_until_it_is_freed() {
    let mut rig = rig(1 << 20);
    let (first, second) = (rig.arena.alloc(5).expect("room"), rig.arena.alloc(9).expect("room"));
    assert_eq!((rig.length(first), rig.length(second)), (5, 9));
    assert_eq!((rig.length(0), rig.length(first + 1), rig.length(u64::MAX)), (0, 0, 0));
    rig.free(first);
    assert_eq!((rig.length(first), rig.length(second)), (0, 9));
    rig.free(first);
    assert_eq!(rig.arena.alloc(8), Some(first), "the room is used again");
    rig.free(second);
    assert_eq!(rig.arena.put(b"again"), Some(second), "the end is used again");
    assert_eq!(rig.arena.block(second), Some(&b"again"[..]));
    rig.begin(b"");
    assert_eq!((rig.length(first), rig.length(second)), (0, 0));
}

#[test]
fn ranges_are_within_the_blocks() {
    let mut rig = rig(1 << 20);
    rig.begin(b"the input");
    let handle = rig.arena.put(b"12345678").expect("room");
    let linear = rig.linear();
    let memory = rig.arena.memory();
    assert_eq!(memory.range(&linear, handle + 2, 3).expect("within"), b"345");
    assert_eq!(memory.range(&linear, u64::MAX, 0).expect("nothing"), b"");
    for (at, len) in [
        (handle, 9),
        (handle, u64::MAX),
        (handle - 1, 2),
        (u64::MAX, u64::MAX),
        (0, 1),
        (8, 8),
        (40, 9),
        (handle + 8, 1),
        (handle + 7, u64::MAX - handle - 6),
    ] {
        assert!(memory.check(at, len).is_err(), "{at} {len}");
        assert!(memory.range(&linear, at, len).is_err(), "{at} {len}");
    }
}

/// Offsets that are of interest around some that are known.
fn offsets(around: &[u64]) -> Vec<u64> {
    let far = [0, 1 << 31, 1 << 32, 1 << 33, 1 << 63, u64::MAX];
    let around = far.iter().chain(around);
    around.flat_map(|at| (0..20).map(|by: u64| at.wrapping_add(by).wrapping_sub(10))).collect()
}

#[test]
fn the_kernel_reads_and_writes_blocks_to_the_byte_and_nothing_else() {
    for (input, len) in [("", 0), ("", 8), ("", 24), ("x", 8), ("12345678", 16), ("123456789", 70_000)] {
        let mut rig = rig(1 << 20);
        rig.begin(input.as_bytes());
        let content: Vec<u8> = (0..len).map(|at: usize| at as u8 | 1).collect();
        let handle = match rig.arena.put(&content).expect("room") {
            0 => 40,
            handle => handle,
        };
        let end = handle + len as u64;
        for at in offsets(&[24, 40, handle, handle + 0x4000, end, 64 << 10, 128 << 10, (1 << 32) + handle]) {
            let seen = |at: u64, bytes: u64| match handle <= at && at <= end && bytes <= end - at {
                true => Ok(&content[(at - handle) as usize..][..bytes as usize]),
                false => Err(format!("{bytes} bytes at offset {at} are not within the {len} bytes of Extism memory")),
            };
            let byte = seen(at, 1).map(|bytes| u32::from(bytes[0]));
            let word = seen(at, 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
            assert_eq!(rig.call("load_u8", at), byte, "{at}");
            assert_eq!(rig.call("load_u64", at), word, "{at}");
            let before = rig.linear();
            // More than a byte: the rest of it goes nowhere.
            let stored: Result<(), String> = rig.call("store_u8", (at, 0x100_u32));
            assert_eq!(stored.err(), byte.clone().err(), "{at}");
            let mut expected = before.clone();
            if let Ok(byte) = byte {
                expected[at as usize] = 0;
                assert!(rig.linear() == expected, "{at}: a byte, and no other");
                rig.call::<_, ()>("store_u8", (at, byte)).expect("written");
            }
            assert!(rig.linear() == before, "{at}: neither the header, nor the input, nor what is behind");
            let stored: Result<(), String> = rig.call("store_u64", (at, u64::MAX));
            assert_eq!(stored.err(), word.clone().err(), "{at}");
            let mut expected = before.clone();
            if let Ok(word) = word {
                expected[at as usize..][..8].fill(0xff);
                assert!(rig.linear() == expected, "{at}: eight bytes, and no other");
                rig.call::<_, ()>("store_u64", (at, word)).expect("written");
            }
            assert!(rig.linear() == before, "{at}: neither the header, nor the input, nor what is behind");
        }
    }
}

#[test]
fn the_kernel_reads_the_input_to_the_byte_and_nothing_else() {
    for input in ["", "x", "1234567", "12345678", "123456789", &"0123456789".repeat(7000)] {
        let mut rig = rig(1 << 20);
        // A longer one before it, and blocks behind it.
        rig.begin(&vec![b'!'; 80_000]);
        rig.begin(input.as_bytes());
        rig.arena.put(&[b'?'; 64]).expect("room");
        let len = input.len() as u64;
        assert_eq!(rig.call("input_length", ()), Ok(len));
        for at in offsets(&[len, len / 2, 64 << 10]) {
            let seen = |at: u64, bytes: u64| match at <= len && bytes <= len - at {
                true => Ok(&input.as_bytes()[at as usize..][..bytes as usize]),
                false => Err(format!("{bytes} bytes at {at} are not within the {len} bytes of input")),
            };
            let word = seen(at, 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
            assert_eq!(rig.call("input_load_u8", at), seen(at, 1).map(|bytes| u32::from(bytes[0])), "{at}");
            assert_eq!(rig.call("input_load_u64", at), word, "{at}");
        }
    }
}

#[test]
fn nothing_is_within_a_memory_that_was_not_begun() {
    let mut rig = rig(1 << 20);
    assert_eq!(rig.call("input_length", ()), Ok(0_u64));
    for at in offsets(&[40]) {
        assert!(rig.call::<_, u32>("load_u8", at).is_err(), "{at}");
        assert!(rig.call::<_, ()>("store_u64", (at, 1_u64)).is_err(), "{at}");
        assert!(rig.call::<_, u32>("input_load_u8", at).is_err(), "{at}");
    }
}

#[test]
fn what_a_call_left_is_no_other_calls_to_read() {
    let mut rig = rig(1 << 20);
    for (input, len) in [(9, 100_000), (70_000, 200), (0, 150_000), (3, 64)] {
        rig.begin(&vec![b'i'; input]);
        let block = rig.arena.alloc(len as u64).expect("room");
        assert_eq!(rig.arena.block(block), Some(&vec![0; len][..]), "zeros");
        rig.arena.block_mut(block).expect("a block").fill(b's');
        let behind = block + len as u64;
        assert!(rig.call::<_, u64>("load_u64", behind.next_multiple_of(8)).is_err());
    }
    rig.arena.clear();
    assert_eq!(rig.call("input_length", ()), Ok(0_u64));
    assert!(!rig.arena.memory().is_used());
    assert!(rig.call::<_, u64>("load_u64", 40_u64).is_err());
}

#[test]
fn no_more_room_is_taken_than_is_allowed() {
    let mut rig = rig(4096);
    for len in [4097, 1 << 30, u64::MAX, i64::MIN as u64] {
        assert_eq!(rig.arena.alloc(len), None);
    }
    // An input is bounded by what calls may bring, and takes nothing of what blocks may have.
    rig.begin(&[0; 100_000]);
    assert!(rig.arena.alloc(4000).is_some());
    assert_eq!(rig.arena.alloc(4000), None);
    rig.begin(b"");
    // The table of blocks counts: a guest that wants single bytes gets not many of them.
    let blocks = (0..4096).map_while(|_| rig.arena.alloc(1)).count();
    assert!((64..=128).contains(&blocks), "{blocks}");
    assert_eq!(rig.linear().len(), 2 * PAGE_BYTES);
}

#[test]
fn a_guest_that_frees_what_it_takes_never_runs_out() {
    let mut rig = rig(4096);
    for _ in 0..10_000 {
        let all = [40, 500, 30].map(|len| rig.arena.alloc(len).expect("room"));
        // First to last: only the last is at the end.
        all.into_iter().for_each(|handle| rig.free(handle));
    }
    assert!(rig.arena.memory().freed.len() <= FREED_KEPT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn blocks_never_lie_over_each_other(steps in proptest::collection::vec((0..3u8, 0..200u64), 0..200), input in 0..50usize) {
        let mut rig = rig(16 << 10);
        let input = vec![b'i'; input];
        rig.begin(&input);
        let mut live: Vec<(u64, Vec<u8>)> = Vec::new();
        for (number, (step, len)) in steps.into_iter().enumerate() {
            if step < 2 {
                let bytes = vec![number as u8; len as usize];
                match rig.arena.put(&bytes) {
                    Some(0) | None => {}
                    Some(handle) => live.push((handle, bytes)),
                }
            } else if !live.is_empty() {
                let (handle, _) = live.remove(len as usize % live.len());
                rig.free(handle);
            }
            for (handle, bytes) in &live {
                prop_assert_eq!(rig.arena.block(*handle), Some(&bytes[..]));
            }
            prop_assert_eq!(&rig.linear()[HEADER_BYTES..][..input.len()], &input[..]);
        }
    }
}

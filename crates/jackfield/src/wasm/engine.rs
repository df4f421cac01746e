//! wasmtime engines, and the clock that lets the host take the floor from a guest.
//!
//! What an engine decides once for all its stores (how deep a stack may be, whether fuel is counted,
//! whether instances come from a pool) is the key under which one is kept for the life of the process:
//! plugins that want the same share it, and with it compiled code.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// Time between two looks at a running guest: what a deadline can be late by, and how long a guest keeps
/// a thread of the application's to itself.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Instances, memories and stacks of the pool, of all plugins together. It is address space, not memory.
const POOLED: u32 = 512;

/// Stack for host functions, beyond what the guest may use.
const HOST_STACK_BYTES: usize = 1 << 20;

/// What makes one engine differ from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EngineKey {
    /// Bytes of stack for the guest.
    pub(super) stack_bytes: usize,
    /// Whether fuel is counted.
    pub(super) fuel: bool,
    /// Whether instances come from a pool, which makes a new one a matter of microseconds.
    pub(super) pooled: bool,
}

/// The engine for a key.
pub(super) fn engine(key: EngineKey) -> wasmtime::Result<Engine> {
    static ENGINES: OnceLock<Mutex<HashMap<EngineKey, Engine>>> = OnceLock::new();
    let engines = ENGINES.get_or_init(Mutex::default);
    let mut engines = engines.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = engines.get(&key) {
        return Ok(engine.clone());
    }
    let engine = Engine::new(&config(key))?;
    tick(engine.clone());
    engines.insert(key, engine.clone());
    Ok(engine)
}

fn config(key: EngineKey) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(key.fuel)
        .max_wasm_stack(key.stack_bytes)
        .async_stack_size(key.stack_bytes + HOST_STACK_BYTES)
        // Three times faster component calls. It is only needed for streams and futures of components.
        .concurrency_support(false)
        .wasm_component_model_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    if key.pooled {
        let mut pool = PoolingAllocationConfig::new();
        // Beside an Extism plugin there is a kernel (`extism/kernel.rs`), with a memory.
        pool.total_core_instances(POOLED * 2)
            .total_component_instances(POOLED)
            .total_memories(POOLED * 2)
            .total_tables(POOLED * 2)
            .total_stacks(POOLED)
            .total_gc_heaps(POOLED)
            .max_unused_warm_slots(POOLED / 4);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Advances the epoch of every engine for ever, from one thread.
///
/// An epoch ends no call by itself: each store looks at its own call's deadline when the epoch has
/// advanced. Were the epoch itself the deadline, as in other hosts, ending one call would end its
/// siblings.
fn tick(engine: Engine) {
    static TICKING: OnceLock<Mutex<Vec<Engine>>> = OnceLock::new();
    let ticking = TICKING.get_or_init(|| {
        let begun = std::thread::Builder::new().name("jackfield-epochs".to_owned()).spawn(|| {
            loop {
                std::thread::sleep(TICK);
                let engines = TICKING.get().map(|engines| engines.lock().unwrap_or_else(PoisonError::into_inner));
                engines.iter().flat_map(|engines| engines.iter()).for_each(Engine::increment_epoch);
            }
        });
        if let Err(error) = begun {
            // Deadlines still hold where a guest waits for its host, and nowhere else.
            tracing::error!(target: "jackfield::wasm", "no thread for the epochs, so no guest can be interrupted: {error}");
        }
        Mutex::default()
    });
    ticking.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_shared_by_what_they_decide() {
        let key = EngineKey { stack_bytes: 256 << 10, fuel: false, pooled: false };
        let same = |a: &Engine, b: &Engine| Engine::same(a, b);
        let first = engine(key).expect("an engine");
        assert!(same(&first, &engine(key).expect("an engine")));
        assert!(!same(&first, &engine(EngineKey { fuel: true, ..key }).expect("an engine")));
        assert!(!same(&first, &engine(EngineKey { pooled: true, ..key }).expect("an engine")));
    }
}

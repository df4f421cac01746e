//! What a module says of itself. It is run for that, with nothing but a log.
//!
//! Not here: whether it is a module of the SDK at all (`module.rs`).

use anyhow::{Context as _, Result, anyhow, bail};
use jackfield::Interface;
use jackfield::protocol::message::HelloAnswer;
use wasmtime::{Caller, Config, Engine, Linker, Module, OptLevel, Store, Trap};

/// The version of the exports `jackfield_*` that is understood here.
const ABI: i32 = 1;

/// Instructions that a module may need to describe itself. English takes a hundred thousand.
const FUEL: u64 = 1_000_000_000;

/// What a module may say in its log meanwhile, in bytes.
const LOG_BYTES_MAX: usize = 64 * 1024;

pub(super) struct About {
    pub(super) json: Vec<u8>,
    pub(super) plugin: String,
    pub(super) interfaces: Vec<Interface>,
}

impl About {
    pub(super) fn ask(module: &[u8]) -> Result<Self> {
        let json = json(module).map_err(|error| match error.downcast_ref::<Trap>() {
            // The words of the error itself are a page of functions.
            Some(trap) => anyhow!("it cannot describe itself: {trap}"),
            None => anyhow!("{error:#}"),
        })?;
        let answer: HelloAnswer = serde_json::from_slice(&json).context("what it says of itself is not understood")?;
        let described = answer.interfaces.iter().map(|offer| match offer.described() {
            Some(interface) => Ok(interface.clone().checked()?),
            None => bail!("it does not describe its interface `{}`", offer.id()),
        });
        let interfaces = described.collect::<Result<Vec<_>>>()?;
        Ok(Self { json, plugin: answer.plugin.name, interfaces })
    }
}

/// What the module has said, in the memory that it takes for Extism's.
#[derive(Default)]
struct Said {
    memory: Vec<u8>,
    errors: Vec<String>,
}

impl Said {
    /// Gives 0, no memory, for what is too long.
    fn alloc(&mut self, len: u64) -> u64 {
        let at = self.memory.len().max(1);
        let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).filter(|end| *end <= LOG_BYTES_MAX);
        end.map_or(0, |end| {
            self.memory.resize(end, 0);
            at as u64
        })
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let room = at.checked_add(bytes.len()).and_then(|end| self.memory.get_mut(at..end));
        if let Some(room) = room.filter(|_| at > 0) {
            room.copy_from_slice(bytes);
        }
    }

    /// Blocks are made one after the other: this one reaches to the end.
    fn log_error(&mut self, at: u64) {
        let text = usize::try_from(at).ok().and_then(|at| self.memory.get(at..)).filter(|_| at > 0);
        self.errors.push(String::from_utf8_lossy(text.unwrap_or_default()).into_owned());
    }
}

fn json(module: &[u8]) -> wasmtime::Result<Vec<u8>> {
    let mut config = Config::new();
    config.consume_fuel(true);
    // It runs once, and for a moment.
    config.cranelift_opt_level(OptLevel::None);
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, module)?;
    let mut linker: Linker<Said> = Linker::new(&engine);
    let env = "extism:host/env";
    linker.func_wrap(env, "alloc", |mut said: Caller<'_, Said>, len: u64| said.data_mut().alloc(len))?;
    linker.func_wrap(env, "store_u8", |mut said: Caller<'_, Said>, at: u64, byte: u32| {
        said.data_mut().store(at, &byte.to_le_bytes()[..1]);
    })?;
    linker.func_wrap(env, "store_u64", |mut said: Caller<'_, Said>, at: u64, word: u64| {
        said.data_mut().store(at, &word.to_le_bytes());
    })?;
    linker.func_wrap(env, "log_error", |mut said: Caller<'_, Said>, at: u64| said.data_mut().log_error(at))?;
    linker.define_unknown_imports_as_traps(&module)?;
    let mut store = Store::new(&engine, Said::default());
    store.set_fuel(FUEL)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let abi = instance.get_typed_func::<(), i32>(&mut store, "jackfield_abi")?.call(&mut store, ())?;
    if abi != ABI {
        wasmtime::bail!("it was built with an SDK of ABI {abi}; this command knows ABI {ABI}");
    }
    let about = instance.get_typed_func::<(), u64>(&mut store, "jackfield_about")?;
    let asked = about.call(&mut store, ());
    if !store.data().errors.is_empty() {
        wasmtime::bail!("it cannot describe itself: {}", store.data().errors.join("; "));
    }
    let block = asked?;
    let (at, len) = ((block >> 32) as usize, block as u32 as usize);
    let memory =
        instance.get_memory(&mut store, "memory").ok_or_else(|| wasmtime::Error::msg("it exports no memory"))?;
    let json = at.checked_add(len).and_then(|end| memory.data(&store).get(at..end));
    json.map(<[u8]>::to_vec).ok_or_else(|| wasmtime::Error::msg("what it says of itself is not in its memory"))
}

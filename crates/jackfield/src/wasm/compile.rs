//! Compiling, within a time and away from the application's threads.
//!
//! wasmtime cannot be interrupted while it compiles. So it does it on threads of its own, at low
//! priority; a plugin that takes too long is refused, and the compilation is left to end by itself.
//! Two at most run in a process, those that were left included, so that hostile files cannot pile up.
//! What is compiled goes to the cache, even if nobody waits for it any more: the next start finds it.
//!
//! Not here: what the cache believes (`cache.rs`); how an engine is set (`engine.rs`). Nothing bounds the
//! memory of a compilation but the size of the file.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::Cache;

/// Compilations that run at the same time in this process. Each uses all processors but one.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The code of so many bytes of WebAssembly is taken from the cache where it is wanted, which takes half a millisecond
/// at most: to hand that to another thread, and to be woken by it, took as long as the rest of a start.
const LOOK_HERE_BYTES: usize = 256 << 10;

/// Stack of a thread that compiles. It is address space; compilers recurse.
const STACK_BYTES: usize = 8 << 20;

/// What is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Module,
    Component,
}

/// What has been compiled.
#[derive(Clone, Debug)]
pub(super) enum Code {
    Module(Module),
    Component(Component),
}

/// Where code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From the cache.
    Cached,
    /// From the compiler, which took this long.
    Compiled { took: Duration },
}

/// Why a WebAssembly file was not compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// It is not valid, or uses what the engine does not have.
    #[error("the compiler refuses it: {what}")]
    Invalid {
        /// The compiler's words.
        what: String,
    },
    /// It was not done in time, waiting for other compilations included.
    #[error("limit `compile_timeout`: not compiled after {waited:?}")]
    TooLong {
        /// The limit.
        waited: Duration,
    },
    /// The compiler has a bug.
    #[error("the compiler panicked: {what}")]
    Panicked {
        /// Its message.
        what: String,
    },
    /// There is no thread to compile on.
    #[error("cannot start a thread to compile on: {what}")]
    Thread {
        /// The operating system's words.
        what: String,
    },
}

/// The code of a plugin: from the cache, or compiled now within `timeout` and put there.
pub(super) async fn code(
    engine: &Engine,
    shape: Shape,
    wasm: Arc<[u8]>,
    cache: &Cache,
    timeout: Duration,
) -> Result<(Code, Origin), CompileError> {
    let begun = Instant::now();
    let (engine, cache) = (engine.clone(), cache.clone());
    let look = {
        let (engine, wasm) = (engine.clone(), Arc::clone(&wasm));
        move || {
            let place = cache.place(&engine, shape, &wasm);
            let code = place.as_ref().and_then(|place| place.load(&engine));
            (place, code)
        }
    };
    let looked = match wasm.len() <= LOOK_HERE_BYTES {
        true => Ok(look()),
        false => tokio::task::spawn_blocking(look).await,
    };
    let place = match looked {
        Ok((_, Some(code))) => return Ok((code, Origin::Cached)),
        Ok((place, None)) => place,
        // A mistake of ours, and not a reason to refuse the plugin; or the runtime ends, and so does this.
        Err(error) => {
            tracing::error!(target: "jackfield::wasm", "the cache of compiled code is not used: {error}");
            None
        }
    };
    bounded(&TURNS, begun, timeout, move || {
        let begun = Instant::now();
        let code = compile(&engine, shape, &wasm)?;
        let took = begun.elapsed();
        // Before the plugin starts: a command that calls it once and ends would end while the file is written.
        if let Some(place) = place {
            place.store(&code);
        }
        Ok((code, Origin::Compiled { took }))
    })
    .await
}

pub(super) fn compile(engine: &Engine, shape: Shape, wasm: &[u8]) -> Result<Code, CompileError> {
    let code = match shape {
        Shape::Module => Module::from_binary(engine, wasm).map(Code::Module),
        Shape::Component => Component::from_binary(engine, wasm).map(Code::Component),
    };
    code.map_err(|error| CompileError::Invalid { what: format!("{error:#}") })
}

/// Does `work` on threads of its own, when it is its turn, and waits for it until `timeout` after `begun`.
async fn bounded<T: Send + 'static>(
    turns: &'static Semaphore,
    begun: Instant,
    timeout: Duration,
    work: impl FnOnce() -> Result<T, CompileError> + Send + 'static,
) -> Result<T, CompileError> {
    let late = |_| CompileError::TooLong { waited: timeout };
    let left = || timeout.saturating_sub(begun.elapsed());
    let panicked = |what: &str| CompileError::Panicked { what: what.to_owned() };
    let turn = tokio::time::timeout(left(), turns.acquire()).await.map_err(late)?;
    let (answer, answered) = oneshot::channel();
    let thread = thread::Builder::new().name("jackfield-compile".to_owned());
    let spawned = thread.spawn(move || {
        let _turn = turn;
        let done = catch_unwind(AssertUnwindSafe(|| in_pool(work)));
        let _ = answer.send(done.unwrap_or_else(|panic| Err(panicked(words(&*panic)))));
    });
    spawned.map_err(|error| CompileError::Thread { what: error.to_string() })?;
    let done = tokio::time::timeout(left(), answered).await.map_err(late)?;
    done.unwrap_or_else(|_| Err(panicked("it ended without a word")))
}

/// Does `work` with rayon's threads, of which wasmtime makes use, being ours.
///
/// A pool for each compilation: one that was left to end by itself would keep the threads of a common one.
/// The application's own, rayon's global pool, is none of our business.
pub(super) fn in_pool<T: Send>(work: impl FnOnce() -> Result<T, CompileError> + Send) -> Result<T, CompileError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).saturating_sub(1).max(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("jackfield-compile-{number}"))
        .stack_size(STACK_BYTES)
        .start_handler(|_| yield_to_others())
        .build()
        .map_err(|error| CompileError::Thread { what: error.to_string() })?;
    pool.install(work)
}

/// Lowers the priority of this thread: what the application does now is more urgent.
fn yield_to_others() {
    // On Linux alone is this about a thread; elsewhere it would be about the whole process.
    #[cfg(target_os = "linux")]
    {
        let own = rustix::process::getpriority_process(None).unwrap_or(0);
        let _ = rustix::process::setpriority_process(None, own.max(10));
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn turns(count: usize) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(count)))
    }

    async fn run<T: Send + 'static>(
        turns: &'static Semaphore,
        timeout: Duration,
        work: impl FnOnce() -> Result<T, CompileError> + Send + 'static,
    ) -> Result<T, CompileError> {
        bounded(turns, Instant::now(), timeout, work).await
    }

    #[tokio::test]
    async fn a_compilation_runs_in_a_pool_of_its_own() {
        let seen = run(turns(1), LONG, || {
            let name = thread::current().name().map(str::to_owned);
            Ok((name, rayon::current_num_threads(), rayon::current_thread_index()))
        });
        let (name, threads, index) = seen.await.expect("done");
        let cores = thread::available_parallelism().expect("a number").get();
        assert_eq!(threads, (cores - 1).max(1));
        assert_eq!(name, index.map(|index| format!("jackfield-compile-{index}")));
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_compilation_gives_way_to_the_application() {
        let priority = || rustix::process::getpriority_process(None).expect("a priority");
        let here = priority();
        let there = run(turns(1), LONG, move || Ok(priority())).await.expect("done");
        assert_eq!((there, priority()), (10.max(here), here));
    }

    #[tokio::test]
    async fn one_that_was_left_keeps_its_turn_until_it_is_over() {
        let turns = turns(1);
        let (end, ended) = mpsc::channel::<()>();
        let error = run(turns, Duration::from_millis(20), move || {
            let _ = ended.recv();
            Ok(())
        });
        assert_eq!(error.await.expect_err("late").to_string(), "limit `compile_timeout`: not compiled after 20ms");
        // The next one has no turn, and does not begin.
        let error = run::<()>(turns, Duration::from_millis(20), || unreachable!("not its turn")).await;
        assert!(matches!(error, Err(CompileError::TooLong { .. })), "{error:?}");
        end.send(()).expect("still running");
        run(turns, LONG, || Ok(())).await.expect("its turn");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_turn_back() {
        let turns = turns(1);
        let error = run::<()>(turns, LONG, || panic!("{} is odd", 3)).await.expect_err("a panic");
        assert_eq!(error.to_string(), "the compiler panicked: 3 is odd");
        run(turns, LONG, || Ok(())).await.expect("its turn");
    }

    #[tokio::test]
    async fn what_is_no_wasm_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(directory.path().join("wasm"), 1 << 20);
        let wasm: Arc<[u8]> = (*b"\0asm\x01\0\0\0\xff").into();
        let error = code(&Engine::default(), Shape::Module, wasm, &cache, LONG).await.expect_err("no wasm");
        let text = error.to_string();
        assert!(text.starts_with("the compiler refuses it: ") && text.contains("offset"), "{text}");
    }
}

//! The plugin's instance, and the guard around every call of it.
//!
//! A host cannot catch a plugin's panic: each shared library has its own copy of std, and to the
//! host the panic is a foreign exception. So every entry goes through [`Served::call`], which does.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock};

use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::{Interface, InterfaceError, Status};

use crate::log::{Level, log};
use crate::trace::Serving;

/// What `export!` makes of a crate. Its fields are for generated code.
#[derive(Debug)]
pub struct Export {
    /// Name of the plugin.
    pub name: &'static str,
    /// Semantic version of the plugin.
    pub version: &'static str,
    /// `name@version` each.
    pub capabilities: &'static [&'static str],
    /// Calls that an executable runs at once.
    pub workers: usize,
    /// The interfaces, described when asked.
    pub interfaces: &'static [fn() -> Result<&'static Interface, InterfaceError>],
    /// Makes an instance.
    pub make: fn() -> Box<dyn Instance>,
}

/// An instance of a plugin, with its interfaces by position. Generated code implements it.
pub trait Instance: Send + Sync {
    /// Makes a call of the interface at this position.
    fn dispatch(&self, interface: usize, call: Incoming<'_>, answer: &mut Vec<u8>) -> Dispatched;
}

/// How a guarded call went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The function was reached, or could not be found.
    Dispatched(Dispatched),
    /// It panicked; the text is the message and the place.
    Panicked(String),
    /// The plugin was stopped.
    Stopped,
}

impl Outcome {
    /// The status of a call that did not go well, as the host will name it.
    #[inline]
    fn error(&self) -> Option<&'static str> {
        Some(match self {
            Outcome::Dispatched(dispatched) => return error_of(dispatched),
            Outcome::Panicked(_) => Status::Panicked.as_str(),
            Outcome::Stopped => Status::Unavailable.as_str(),
        })
    }
}

/// [`Outcome::error`], where nothing can be caught.
#[inline]
pub(crate) fn error_of(dispatched: &Dispatched) -> Option<&'static str> {
    match dispatched {
        Dispatched::Ok => None,
        Dispatched::OwnError => Some(Status::Error.as_str()),
        Dispatched::Unimplemented | Dispatched::BadArguments(_) | Dispatched::Failed(_) => {
            Some(Status::Refused.as_str())
        }
    }
}

/// `greeter.greet`: the function of a call, for people.
pub(crate) fn function_name(export: &Export, interface: usize, call: &Incoming<'_>) -> String {
    let described = export.interfaces.get(interface).and_then(|described| described().ok());
    let function = match call.function {
        Called::Name(name) => Some(name.to_owned()),
        Called::Position(at) => {
            described.and_then(|described| described.functions.get(at)).map(|function| function.name.clone())
        }
    };
    match (described, function) {
        (Some(described), Some(function)) => format!("{}.{function}", described.id.name),
        _ => "_OTHER".to_owned(),
    }
}

/// An instance that is served to a host.
pub(crate) struct Served {
    export: &'static Export,
    instance: RwLock<Option<Arc<dyn Instance>>>,
    poisoned: AtomicBool,
}

impl Served {
    /// Makes the first instance. A panic in the expression that makes it comes through.
    pub(crate) fn new(export: &'static Export) -> Self {
        note_panics();
        Self { export, instance: RwLock::new(Some((export.make)().into())), poisoned: AtomicBool::new(false) }
    }

    /// Makes a call; a panic in it ends the call, and the instance.
    pub(crate) fn call(&self, interface: usize, call: Incoming<'_>, answer: &mut Vec<u8>) -> Outcome {
        if self.poisoned.load(Ordering::Acquire)
            && let Err(message) = self.renew()
        {
            return Outcome::Panicked(message);
        }
        // A hold on the instance and not on the lock: whoever makes a new instance after a panic must not
        // wait for a call of the old one that takes its time.
        let current = self.instance.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(instance) = current else { return Outcome::Stopped };
        let span = Serving::begin(|| function_name(self.export, interface, &call));
        // AssertUnwindSafe: the instance is not used again after a panic, it is made anew, and the
        // answer is thrown away below.
        let outcome = match catch_unwind(AssertUnwindSafe(|| instance.dispatch(interface, call, answer))) {
            Ok(dispatched) => {
                let_go(instance);
                Outcome::Dispatched(dispatched)
            }
            Err(payload) => {
                self.poison(&instance);
                answer.clear();
                let message = panic_message(&*payload);
                let_go(instance);
                Outcome::Panicked(message)
            }
        };
        span.end(outcome.error());
        outcome
    }

    /// Drops the instance, once its calls are over.
    pub(crate) fn stop(&self) {
        let instance = self.instance.write().unwrap_or_else(PoisonError::into_inner).take();
        instance.into_iter().for_each(let_go);
    }

    /// Has the next call make a new instance, unless one was made since.
    fn poison(&self, panicked: &Arc<dyn Instance>) {
        let instance = self.instance.read().unwrap_or_else(PoisonError::into_inner);
        if instance.as_ref().is_some_and(|instance| Arc::ptr_eq(instance, panicked)) {
            self.poisoned.store(true, Ordering::Release);
        }
    }

    fn renew(&self) -> Result<(), String> {
        let mut instance = self.instance.write().unwrap_or_else(PoisonError::into_inner);
        if !self.poisoned.load(Ordering::Acquire) || instance.is_none() {
            return Ok(());
        }
        let made = catch_unwind(|| (self.export.make)()).map_err(|payload| panic_message(&*payload))?;
        let old = instance.replace(made.into());
        self.poisoned.store(false, Ordering::Release);
        drop(instance);
        old.into_iter().for_each(let_go);
        Ok(())
    }
}

/// Drops an instance, if nobody else has it. Its `Drop` is the plugin's code, and may panic: for one that
/// panicked before that is nothing new.
fn let_go(instance: Arc<dyn Instance>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        log(Level::Error, &format!("panic while stopping: {}", panic_message(&*payload)));
    }
}

/// The descriptions of a plugin's interfaces.
pub(crate) fn interfaces(export: &Export) -> Result<Vec<&'static Interface>, InterfaceError> {
    export.interfaces.iter().map(|interface| interface()).collect()
}

thread_local! {
    /// Where the last panic of this thread happened: the payload does not say.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let place = info.location().map(ToString::to_string);
            let _ = PLACE.try_with(|noted| *noted.borrow_mut() = place);
            before(info);
        }));
    });
}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned());
    match PLACE.try_with(|place| place.borrow_mut().take()).ok().flatten() {
        Some(place) => format!("{message} ({place})"),
        None => message,
    }
}

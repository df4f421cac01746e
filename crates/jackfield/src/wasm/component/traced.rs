//! The trace of a call, for a component that exports `jackfield:plugin/tracing`, and its spans.
//!
//! A component has no memory that the host may write to, and no import that every host has. So it is told by a
//! function that it exports, before a call that is traced, and asked for its spans after it. Whoever runs it
//! elsewhere passes over that interface.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{Engine, Store};

use jackfield_protocol::TraceContext;
use jackfield_protocol::call::Cause;
use jackfield_protocol::span::{SPAN_BYTES_MAX, SPANS_MAX};

use crate::wasm::extism::Broke;
use crate::wasm::guest::Guest;

/// Its name. docs/protocol.md has it as WIT.
pub(super) const INTERFACE: &str = "jackfield:plugin/tracing@1.0.0";

/// Bytes that the spans of a call may have: those that are taken, each with the end of its line.
const SPANS_BYTES_MAX: usize = SPANS_MAX * (SPAN_BYTES_MAX + 1);

/// The functions of [`INTERFACE`], found once.
#[derive(Clone, Copy)]
pub(super) struct Tracing {
    begin: ComponentExportIndex,
    spans: ComponentExportIndex,
}

impl Tracing {
    /// Finds them; the error says what is there instead.
    pub(super) fn of(engine: &Engine, code: &Component, exported: &ComponentInstance) -> Result<Self, String> {
        let instance = code.get_export_index(None, INTERFACE);
        let find = |name: &str, wanted: &str, is_wanted: fn(&ComponentFunc) -> bool| {
            let function = exported.exports(engine).find_map(|(other, export)| match export.ty {
                ComponentItem::ComponentFunc(function) if other == name => Some(function),
                _ => None,
            });
            let index = code.get_export_index(instance.as_ref(), name);
            index
                .filter(|_| function.is_some_and(|function| is_wanted(&function)))
                .ok_or_else(|| format!("`{INTERFACE}`, whose `{name}` is not `{wanted}`: its calls carry no trace"))
        };
        Ok(Self {
            begin: find("begin", "func(traceparent: string, home: bool)", |function| {
                let params: Vec<_> = function.params().map(|(_, ty)| ty).collect();
                params == [Type::String, Type::Bool] && function.results().len() == 0
            })?,
            spans: find("spans", "func() -> string", |function| {
                function.params().len() == 0 && function.results().eq([Type::String])
            })?,
        })
    }

    /// Tells an instance which span its next call is made in, and whether this host takes spans of it.
    pub(super) async fn begin(
        self,
        store: &mut Store<Guest>,
        instance: Instance,
        trace: &TraceContext,
        home: bool,
    ) -> wasmtime::Result<()> {
        let begin: TypedFunc<(&str, bool), ()> = typed(store, instance, self.begin)?;
        begin.call_async(store, (&trace.text(), home)).await
    }

    /// Takes the spans of the call that is just over: JSON objects, a line each. It is an error if they are more bytes than
    /// that many spans can have: nobody copies what is thrown away.
    pub(super) async fn take_spans(self, store: &mut Store<Guest>, instance: Instance) -> wasmtime::Result<()> {
        let spans: TypedFunc<(), (String,)> = typed(store, instance, self.spans)?;
        let copied_max = store.hostcall_fuel();
        store.set_hostcall_fuel(SPANS_BYTES_MAX);
        let given = spans.call_async(&mut *store, ()).await;
        store.set_hostcall_fuel(copied_max);
        let (given,) = given.map_err(|error| match super::is_too_much_copied(&error) {
            true => Broke(Cause::Protocol { what: format!("its spans have more than {SPANS_BYTES_MAX} bytes") }).into(),
            false => error,
        })?;
        let recorder = store.data().watch.recorder();
        given.lines().filter(|line| !line.is_empty()).take(SPANS_MAX).for_each(|span| recorder.take(span.as_bytes()));
        Ok(())
    }
}

fn typed<P, R>(
    store: &mut Store<Guest>,
    instance: Instance,
    at: ComponentExportIndex,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    instance.get_typed_func(store, at)
}

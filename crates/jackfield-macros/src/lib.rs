//! The macros of Jackfield. Use them through `jackfield_plugin` (or `jackfield`), which also has
//! what the generated code refers to.

mod derive;
mod export;
mod interface;
mod names;

use proc_macro::TokenStream;

/// Makes a trait an interface: `#[interface("demo:greeter/greeter@1.0.0")]`.
///
/// Every method takes `&self` and owned parameters whose types are `Type`, and gives a `Type`, a
/// `Result` of two, or nothing. For a trait `Greeter` it yields
/// - `GreeterClient`, what `Client<dyn Greeter>` derefs to: each method, async, giving
///   `Result<T, CallError<E>>`; and `GreeterBlocking`, the same without async;
/// - the interface description (`<dyn Greeter as Described>::interface()`), with the doc comments;
/// - the dispatcher that `export!` uses, and on `wasm32-unknown-unknown` a macro `Greeter!` for it alone.
///
/// A method may have a body, which a plugin then need not write.
///
/// `#[jackfield(idempotent)]` on a method says that calling it twice does what calling it once does, so that
/// a host may repeat a failed call. The mark is in the description, and in what is exported of it; it is not
/// part of the fingerprint, so that it can be set and taken away.
///
/// `#[interface("…", crate = path)]` names the crate to refer to, where it is not `::jackfield_plugin`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = syn::parse_macro_input!(arguments as interface::Arguments);
    let item = syn::parse_macro_input!(item as syn::ItemTrait);
    interface::expand(&arguments, item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Lets a type cross the border: a struct as a record, an enum as a variant or an enum.
///
/// `#[jackfield(flags)]` on a struct of `bool`s makes it a set of flags. A struct of one unnamed
/// field is that field. The cases of an enum carry nothing, one value, or several as a tuple.
#[proc_macro_derive(Type, attributes(jackfield))]
pub fn derive_type(item: TokenStream) -> TokenStream {
    let item = syn::parse_macro_input!(item as syn::DeriveInput);
    derive::expand(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a crate a plugin: `export!(English: Greeter, capabilities: ["greeting@1", "batch@2"]);`
///
/// Before the colon stands an expression that makes an instance, after it the interfaces it
/// implements, joined by `+`. Then, each optional:
/// - `capabilities: ["name@version", …]`: what the plugin promises; default none;
/// - `name: "…"`, `version: "…"`: default those of the Cargo package;
/// - `workers: 8`: calls that an executable runs at once; default 8.
///
/// The same source becomes a shared library (crate type `cdylib`) and an executable, whose `main`
/// is `fn main() -> std::process::ExitCode { the_crate::serve() }`. For `wasm32-unknown-unknown` the
/// library is a module that Extism hosts run, too; for `wasm32-wasip1` the executable is a WASI command.
///
/// The trait must be named by a path that leads to where `#[interface]` is, or to a `use` of it: a
/// macro of the same name stands there, which knows the names of the functions.
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as export::Export);
    export::expand(&input).into()
}

//! `export!`.
//!
//! A WebAssembly module exports each function by name, and only `#[interface]` knows the names, while
//! only `export!` knows that there is a plugin. So `#[interface]` leaves a macro beside the trait, under
//! the trait's own name ([`exports_macro`]): whoever imports the trait has both, and `export!` calls it.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, ItemTrait, LitInt, LitStr, Path, Result, Token, Visibility, bracketed};

use crate::names::default_crate;

pub(crate) struct Export {
    make: Expr,
    interfaces: Punctuated<Path, Token![+]>,
    capabilities: Vec<LitStr>,
    name: TokenStream,
    version: TokenStream,
    workers: TokenStream,
    krate: TokenStream,
}

impl Parse for Export {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let make = input.parse()?;
        input.parse::<Token![:]>()?;
        let mut export = Self {
            make,
            interfaces: Punctuated::parse_separated_nonempty(input)?,
            capabilities: Vec::new(),
            name: quote!(env!("CARGO_PKG_NAME")),
            version: quote!(env!("CARGO_PKG_VERSION")),
            workers: quote!(8),
            krate: default_crate(),
        };
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            if input.peek(Token![crate]) {
                input.parse::<Token![crate]>()?;
                input.parse::<Token![:]>()?;
                let path: Path = input.parse()?;
                export.krate = quote!(#path);
                continue;
            }
            let key: Ident = input.parse()?;
            input.parse::<Token![:]>()?;
            match &*key.to_string() {
                "capabilities" => {
                    let list;
                    bracketed!(list in input);
                    export.capabilities =
                        Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect();
                }
                "name" => {
                    let name: LitStr = input.parse()?;
                    export.name = quote!(#name);
                }
                "version" => {
                    let version: LitStr = input.parse()?;
                    export.version = quote!(#version);
                }
                "workers" => {
                    let workers: LitInt = input.parse()?;
                    export.workers = quote!(#workers);
                }
                _ => {
                    let what = "expected `capabilities`, `name`, `version`, `workers` or `crate`";
                    return Err(syn::Error::new(key.span(), what));
                }
            }
        }
        Ok(export)
    }
}

pub(crate) fn expand(export: &Export) -> TokenStream {
    let Export { make, capabilities, name, version, workers, krate, .. } = export;
    let interfaces: Vec<_> = export.interfaces.iter().collect();
    let positions: Vec<_> = (0..interfaces.len()).map(Literal::usize_unsuffixed).collect();
    quote! {
        #(const _: () = #krate::protocol::name::assert_capability(#capabilities);)*

        /// What this crate exports as a plugin.
        #[doc(hidden)]
        pub static JACKFIELD_EXPORT: #krate::Export = #krate::Export {
            name: #name,
            version: #version,
            capabilities: &[#(#capabilities),*],
            workers: #workers,
            interfaces: &[#(<dyn #interfaces as #krate::protocol::call::Described>::interface),*],
            make: || {
                struct Instance<T>(T);
                impl<T: #(#interfaces +)*> #krate::Instance for Instance<T> {
                    fn dispatch(
                        &self,
                        interface: usize,
                        call: #krate::protocol::dispatch::Incoming<'_>,
                        answer: &mut ::std::vec::Vec<u8>,
                    ) -> #krate::protocol::dispatch::Dispatched {
                        match interface {
                            #(#positions => {
                                let instance: &dyn #interfaces = &self.0;
                                #krate::protocol::dispatch::Dispatch::dispatch(instance, call, answer)
                            })*
                            _ => #krate::protocol::dispatch::Dispatched::Unimplemented,
                        }
                    }
                }
                ::std::boxed::Box::new(Instance(#make))
            },
        };

        /// Serves this plugin on stdin and stdout until the host ends it: the whole of a plugin's `main`.
        pub fn serve() -> ::std::process::ExitCode {
            #krate::process::serve(&JACKFIELD_EXPORT)
        }

        #krate::__if_grpc! {
            /// Serves this plugin over gRPC until the host ends it: the whole of a plugin's `main`.
            pub fn serve_grpc() -> ::std::process::ExitCode {
                #krate::grpc::serve(&JACKFIELD_EXPORT)
            }
        }

        #[cfg(not(target_family = "wasm"))]
        #[doc(hidden)]
        #[allow(unsafe_code, non_upper_case_globals, missing_docs)]
        #[unsafe(no_mangle)]
        pub static jackfield_header: #krate::protocol::native::Header =
            #krate::protocol::native::Header::new(#krate::SDK, cfg!(panic = "abort"));

        /// # Safety
        /// Called by a host, with tables as `jackfield.h` describes them.
        #[cfg(not(target_family = "wasm"))]
        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn jackfield_register(
            host: *const #krate::protocol::native::Host,
            registry: *const #krate::protocol::native::Registry,
        ) -> i32 {
            // SAFETY: the host's tables are passed on as they came, under the same contract.
            unsafe { #krate::native::register(&JACKFIELD_EXPORT, host, registry) }
        }

        #[cfg(all(target_family = "wasm", target_os = "unknown"))]
        #krate::__wasm_exports! { JACKFIELD_EXPORT }
        #(
            #[cfg(all(target_family = "wasm", target_os = "unknown"))]
            #interfaces! { [#krate::__wasm_functions] #positions JACKFIELD_EXPORT }
        )*
    }
}

/// The macro that stands beside an interface's trait. It calls the macro it is given, with what it is
/// given and, for each function, its position and the names of its export.
pub(crate) fn exports_macro(id: &LitStr, item: &ItemTrait, functions: &[&str]) -> TokenStream {
    let (ident, vis) = (&item.ident, &item.vis);
    let id = id.value();
    let interface = id.rsplit_once('/').map_or(&*id, |(_, name)| name).split('@').next().unwrap_or_default();
    let exported = functions.iter().enumerate().map(|(position, function)| {
        let function = function.replace('-', "_");
        let qualified = format!("{interface}.{function}");
        let position = Literal::usize_unsuffixed(position);
        match has_plain_export(&function) {
            true => quote!(#position [#function] #qualified),
            false => quote!(#position [] #qualified),
        }
    });
    // The macros of a crate have one name space, whatever module they stand in.
    let place = proc_macro::Span::call_site();
    let file: String = place.file().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = format_ident!("__jackfield_{file}_{}_{}_{ident}", place.line(), place.column());
    let reach = match vis {
        Visibility::Public(_) => quote!(#[macro_export]),
        _ => quote!(),
    };
    quote! {
        #[cfg(all(target_family = "wasm", target_os = "unknown"))]
        #[doc(hidden)]
        #[allow(unused_macros)]
        #reach
        macro_rules! #name {
            ([$($to:tt)*] $($with:tt)*) => {
                $($to)*! { [$($with)*] #(#exported;)* }
            };
        }
        #[cfg(all(target_family = "wasm", target_os = "unknown"))]
        #[doc(hidden)]
        #[allow(unused_imports)]
        #vis use #name as #ident;
    }
}

/// Whether a function of the first interface is exported by its plain name, too, beside
/// `interface.function`.
///
/// In a module the name of an export is that of a symbol, and a symbol of that name may be there
/// already: a plugin's `exp` in the place of the mathematical one would be called by every `f64::exp`.
fn has_plain_export(function: &str) -> bool {
    let float = ["f", "f16", "f128"].into_iter().filter_map(|width| function.strip_suffix(width));
    let mut names = float.chain([function]);
    !function.starts_with("jackfield_") && !names.any(|name| TAKEN.contains(&name))
}

/// What Rust's own library brings along on this target, as for C: memory and mathematics; then what a
/// module's memory is called, and what hosts call at the start if it is there.
const TAKEN: [&str; 67] = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bcmp",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "fdim",
    "floor",
    "fma",
    "fmax",
    "fmaximum",
    "fmaximum_num",
    "fmin",
    "fminimum",
    "fminimum_num",
    "fmod",
    "frexp",
    "hypot",
    "ilogb",
    "ldexp",
    "lgamma",
    "lgamma_r",
    "log",
    "log10",
    "log1p",
    "log2",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "modf",
    "nextafter",
    "pow",
    "remainder",
    "remquo",
    "rint",
    "round",
    "roundeven",
    "scalbn",
    "sin",
    "sincos",
    "sinh",
    "sqrt",
    "strlen",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "rust_eh_personality",
    "memory",
    "hs_init",
    "main",
    "cabi_realloc",
];

#[cfg(test)]
mod tests {
    use super::has_plain_export;

    #[test]
    fn a_name_that_is_taken_is_exported_with_its_interface_alone() {
        for name in ["log", "expf", "round", "copysignf128", "memory", "memcpy", "main", "jackfield_call"] {
            assert!(!has_plain_export(name), "{name}");
        }
        for name in ["greet", "answer_of", "logs", "f", "self", "half", "read"] {
            assert!(has_plain_export(name), "{name}");
        }
    }
}

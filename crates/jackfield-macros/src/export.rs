//! `export!`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, LitInt, LitStr, Path, Result, Token, bracketed};

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
    let positions: Vec<_> = (0..interfaces.len()).collect();
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
        #[cfg(not(target_family = "wasm"))]
        pub fn serve() -> ::std::process::ExitCode {
            #krate::process::serve(&JACKFIELD_EXPORT)
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
    }
}

//! `#[interface]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemTrait, LitStr, Pat, Path, PathArguments, ReceiverKind, Result,
    ReturnType, Token, TraitItem, TraitItemFn, Type, parse_quote,
};

use crate::derive::record;
use crate::export::exports_macro;
use crate::names::{default_crate, docs, to_kebab};

pub(crate) struct Arguments {
    id: LitStr,
    krate: TokenStream,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let id = input.parse()?;
        let mut krate = default_crate();
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            input.parse::<Token![crate]>()?;
            input.parse::<Token![=]>()?;
            let path: Path = input.parse()?;
            krate = quote!(#path);
        }
        Ok(Self { id, krate })
    }
}

struct Function {
    ident: Ident,
    name: String,
    docs: String,
    attributes: Vec<Attribute>,
    idempotent: bool,
    params: Vec<(Ident, Type)>,
    params_type: Ident,
    returns: Returns,
}

enum Returns {
    Nothing,
    Plain(Box<Type>),
    Result(Box<Type>, Box<Type>),
}

pub(crate) fn expand(arguments: &Arguments, mut item: ItemTrait) -> Result<TokenStream> {
    let Arguments { id, krate } = arguments;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an interface has no parameters"));
    }
    let mut functions = Vec::new();
    for part in &mut item.items {
        match part {
            TraitItem::Fn(function) => functions.push(read(&item.ident, function)?),
            other => return Err(Error::new_spanned(other, "an interface has functions only")),
        }
    }
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!('static));

    let ident = &item.ident;
    let params: Vec<_> = functions.iter().map(|function| params_struct(krate, function)).collect();
    let described = describe(krate, id, &item, &functions);
    let dispatched = dispatch(krate, ident, &functions);
    let client = client(krate, &item, &functions);
    let checked = quote!(const _: () = #krate::protocol::name::assert_interface_id(#id););
    let name = format_ident!("{ident}Client");
    let names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
    let exports = exports_macro(id, &item, &names);
    Ok(quote! {
        #item
        #checked
        #(#params)*
        #client
        #dispatched
        #exports

        #[automatically_derived]
        impl #krate::protocol::call::Described for dyn #ident {
            type Client = #name;
            #described
        }
    })
}

fn read(owner: &Ident, function: &mut TraitItemFn) -> Result<Function> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        let what = "a function of an interface is not async: the host's side of it is";
        return Err(Error::new_spanned(asyncness, what));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a function of an interface has no parameters of type"));
    }
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(me)) if matches!(me.kind, ReceiverKind::Reference(_, _, None)) => {}
        _ => return Err(Error::new_spanned(&signature.ident, "a function of an interface takes `&self`")),
    }
    let params = inputs.map(|input| match input {
        FnArg::Typed(param) => match (&*param.pat, &*param.ty) {
            (_, Type::Reference(reference)) => {
                Err(Error::new_spanned(reference, "what crosses a border is owned: `String`, `Vec<u8>`"))
            }
            (Pat::Ident(name), ty) => Ok((name.ident.clone(), ty.clone())),
            (other, _) => Err(Error::new_spanned(other, "a parameter has a name")),
        },
        FnArg::Receiver(other) => Err(Error::new_spanned(other, "a parameter has a name")),
    });
    let params = params.collect::<Result<Vec<_>>>()?;
    let returns = returns(&signature.output)?;
    let mut idempotent = false;
    for attribute in function.attrs.iter().filter(|attribute| attribute.path().is_ident("jackfield")) {
        attribute.parse_nested_meta(|meta| match meta.path.is_ident("idempotent") {
            true => {
                idempotent = true;
                Ok(())
            }
            false => Err(meta.error("expected `idempotent`")),
        })?;
    }
    function.attrs.retain(|attribute| !attribute.path().is_ident("jackfield"));
    let ident = function.sig.ident.clone();
    let name = to_kebab(&ident.to_string());
    let camel: String = name.split('-').map(capitalised).collect();
    Ok(Function {
        params_type: format_ident!("{owner}{camel}Params"),
        docs: docs(&function.attrs),
        attributes: function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect(),
        ident,
        name,
        idempotent,
        params,
        returns,
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn returns(output: &ReturnType) -> Result<Returns> {
    let ReturnType::Type(_, ty) = output else { return Ok(Returns::Nothing) };
    if matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()) {
        return Ok(Returns::Nothing);
    }
    let Type::Path(path) = &**ty else { return Ok(Returns::Plain(ty.clone())) };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else {
        return Ok(Returns::Plain(ty.clone()));
    };
    let types: Vec<_> = match &last.arguments {
        PathArguments::AngleBracketed(types) => types
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty.clone()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match <[Type; 2]>::try_from(types) {
        Ok([ok, err]) => Ok(Returns::Result(Box::new(ok), Box::new(err))),
        Err(_) => Err(Error::new_spanned(ty, "write both types: `Result<T, E>`")),
    }
}

impl Function {
    fn ok(&self) -> TokenStream {
        match &self.returns {
            Returns::Nothing => quote!(()),
            Returns::Plain(ty) | Returns::Result(ty, _) => quote!(#ty),
        }
    }

    fn err(&self, krate: &TokenStream) -> TokenStream {
        match &self.returns {
            Returns::Result(_, err) => quote!(#err),
            _ => quote!(#krate::protocol::call::NoError),
        }
    }
}

fn params_struct(krate: &TokenStream, function: &Function) -> TokenStream {
    let Function { params_type, params, .. } = function;
    let (names, types): (Vec<_>, Vec<_>) = params.iter().cloned().unzip();
    let implementation = record(krate, params_type, params);
    quote! {
        #[doc(hidden)]
        #[allow(missing_docs, unreachable_pub, missing_debug_implementations)]
        pub struct #params_type { #(pub #names: #types),* }
        #implementation
    }
}

fn describe(krate: &TokenStream, id: &LitStr, item: &ItemTrait, functions: &[Function]) -> TokenStream {
    let interface_docs = docs(&item.attrs);
    let described = functions.iter().map(|function| {
        let Function { name, docs, idempotent, params, returns, .. } = function;
        let (names, types): (Vec<_>, Vec<_>) =
            params.iter().map(|(ident, ty)| (to_kebab(&ident.to_string()), ty)).unzip();
        let result = match returns {
            Returns::Nothing => quote!(None),
            Returns::Plain(ty) => quote!(Some(<#ty as #krate::protocol::Type>::describe(types))),
            Returns::Result(ok, err) => {
                quote!(Some(<::core::result::Result<#ok, #err> as #krate::protocol::Type>::describe(types)))
            }
        };
        quote! {
            #krate::protocol::Function {
                name: ::std::string::String::from(#name),
                docs: ::std::string::String::from(#docs),
                params: ::std::vec![#(#krate::protocol::Param {
                    name: ::std::string::String::from(#names),
                    ty: <#types as #krate::protocol::Type>::describe(types),
                }),*],
                result: #result,
                idempotent: #idempotent,
            }
        }
    });
    quote! {
        fn interface() -> ::core::result::Result<&'static #krate::protocol::Interface, #krate::protocol::InterfaceError> {
            static INTERFACE: ::std::sync::OnceLock<
                ::core::result::Result<#krate::protocol::Interface, #krate::protocol::InterfaceError>,
            > = ::std::sync::OnceLock::new();
            INTERFACE
                .get_or_init(|| {
                    let id = #krate::protocol::interface_id(#id)?;
                    #krate::protocol::Interface::new(id, ::std::string::String::from(#interface_docs), |types| {
                        let _ = &types;
                        ::std::vec![#(#described),*]
                    })
                })
                .as_ref()
                .map_err(::core::clone::Clone::clone)
        }
    }
}

fn dispatch(krate: &TokenStream, ident: &Ident, functions: &[Function]) -> TokenStream {
    let names = functions.iter().map(|function| &function.name);
    let arms = functions.iter().enumerate().map(|(position, function)| {
        let Function { ident, params_type, params, returns, .. } = function;
        let names = params.iter().map(|(name, _)| name);
        let run = match returns {
            Returns::Result(..) => quote!(run),
            _ => quote!(run_plain),
        };
        quote! {
            Some(#position) => call.#run(answer, |params: #params_type| {
                let _ = &params;
                self.#ident(#(params.#names),*)
            })
        }
    });
    quote! {
        #[automatically_derived]
        impl #krate::protocol::dispatch::Dispatch for dyn #ident {
            #[inline]
            fn dispatch(
                &self,
                call: #krate::protocol::dispatch::Incoming<'_>,
                answer: &mut ::std::vec::Vec<u8>,
            ) -> #krate::protocol::dispatch::Dispatched {
                let _ = &answer;
                match call.position(&[#(#names),*]) {
                    #(#arms,)*
                    _ => #krate::protocol::dispatch::Dispatched::Unimplemented,
                }
            }
        }
    }
}

fn client(krate: &TokenStream, item: &ItemTrait, functions: &[Function]) -> TokenStream {
    let (ident, vis) = (&item.ident, &item.vis);
    let client = format_ident!("{ident}Client");
    let blocking = format_ident!("{ident}Blocking");
    let client_docs = format!("Calls a plugin's `{ident}`. Made by the host: `host.get::<dyn {ident}>(…)`.");
    let blocking_docs = format!("[`{client}`] for code that is not async: each call waits on its thread.");
    let methods = |is_async: bool| {
        functions.iter().enumerate().map(move |(position, function)| {
            let Function { ident, attributes, params_type, params, .. } = function;
            let (names, types): (Vec<_>, Vec<_>) = params.iter().cloned().unzip();
            let (ok, err) = (function.ok(), function.err(krate));
            let blocking = !is_async;
            // The parameters are gone before the answer is waited for.
            let start = match &*names {
                // An argument alone may be passed as it is: whoever makes the call either takes it or has it encoded.
                [name] => quote! {{
                    let params = ::core::cell::RefCell::new(#params_type { #name });
                    self.caller.call(#krate::protocol::call::Outgoing {
                        function: #position,
                        arguments: &|encoding, out| encoding.encode(&*params.borrow(), out),
                        take: &|| #krate::protocol::Type::take_whole(&mut params.borrow_mut().#name),
                        blocking: #blocking,
                    })
                }},
                _ => quote! {{
                    let params = #params_type { #(#names),* };
                    self.caller.call(#krate::protocol::call::Outgoing {
                        function: #position,
                        arguments: &|encoding, out| encoding.encode(&params, out),
                        take: &|| ::core::option::Option::None,
                        blocking: #blocking,
                    })
                }},
            };
            let (asyncness, body) = match is_async {
                true => (
                    quote!(async),
                    quote! {
                        let reply = #start;
                        #krate::protocol::call::answered(&*self.caller, #position, reply).await
                    },
                ),
                false => {
                    (quote!(), quote!(#krate::protocol::call::answered_blocking(&*self.caller, #position, || #start)))
                }
            };
            quote! {
                #(#attributes)*
                pub #asyncness fn #ident(
                    &self,
                    #(#names: #types),*
                ) -> ::core::result::Result<#ok, #krate::protocol::CallError<#err>> {
                    #body
                }
            }
        })
    };
    let (awaited, waited) = (methods(true), methods(false));
    quote! {
        #[doc = #client_docs]
        #[derive(Clone)]
        #vis struct #client {
            caller: ::std::sync::Arc<dyn #krate::protocol::call::Caller>,
        }

        #[doc = #blocking_docs]
        #[derive(Clone)]
        #vis struct #blocking {
            caller: ::std::sync::Arc<dyn #krate::protocol::call::Caller>,
        }

        #[allow(missing_docs)]
        impl #client {
            #(#awaited)*

            /// The same functions for code that is not async.
            pub fn blocking(&self) -> #blocking {
                #blocking { caller: ::std::sync::Arc::clone(&self.caller) }
            }
        }

        #[allow(missing_docs)]
        impl #blocking {
            #(#waited)*
        }

        #[automatically_derived]
        impl ::core::convert::From<::std::sync::Arc<dyn #krate::protocol::call::Caller>> for #client {
            fn from(caller: ::std::sync::Arc<dyn #krate::protocol::call::Caller>) -> Self {
                Self { caller }
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Debug for #client {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(stringify!(#client)).finish_non_exhaustive()
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Debug for #blocking {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(stringify!(#blocking)).finish_non_exhaustive()
            }
        }
    }
}

//! `#[derive(Type)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, Ident, LitInt, Path, Result, Type};

use crate::names::{default_crate, to_kebab};

struct Options {
    flags: bool,
    krate: TokenStream,
}

pub(crate) fn expand(item: &DeriveInput) -> Result<TokenStream> {
    let options = options(&item.attrs)?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "a type of an interface has no parameters"));
    }
    let name = &item.ident;
    match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if options.flags => flags(&options.krate, name, fields),
            Fields::Named(fields) => {
                let fields: Vec<_> =
                    fields.named.iter().filter_map(|field| Some((field.ident.clone()?, field.ty.clone()))).collect();
                Ok(record(&options.krate, name, &fields))
            }
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                Ok(newtype(&options.krate, name, &fields.unnamed[0].ty))
            }
            other => Err(Error::new_spanned(other, "a record has named fields")),
        },
        Data::Enum(data) => cases(&options.krate, name, data),
        Data::Union(_) => Err(Error::new_spanned(name, "a union is no type of an interface")),
    }
}

fn options(attributes: &[Attribute]) -> Result<Options> {
    let mut options = Options { flags: false, krate: default_crate() };
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("jackfield")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("flags") {
                options.flags = true;
            } else if meta.path.is_ident("crate") {
                let path: Path = meta.value()?.parse()?;
                options.krate = quote!(#path);
            } else {
                return Err(meta.error("expected `flags` or `crate = path`"));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

/// A record; also the parameters of a function, which are one.
pub(crate) fn record(krate: &TokenStream, name: &Ident, fields: &[(Ident, Type)]) -> TokenStream {
    let wit = to_kebab(&name.to_string());
    let (idents, types): (Vec<_>, Vec<_>) = fields.iter().cloned().unzip();
    let names: Vec<_> = idents.iter().map(|ident| to_kebab(&ident.to_string())).collect();
    let read: Vec<_> = (0..fields.len()).map(|at| format_ident!("field_{at}")).collect();
    let positions: Vec<_> = (0..fields.len()).collect();
    let len = fields.len();
    // A record of one field is written as that field is.
    let binary = match (&*idents, &*types) {
        ([field], [ty]) => quote! {
            #[inline]
            fn write_binary(&self, out: &mut ::std::vec::Vec<u8>) -> bool {
                <#ty as #krate::protocol::Type>::write_binary(&self.#field, out)
            }

            #[inline]
            fn read_binary(bytes: &[u8]) -> ::core::option::Option<Self> {
                ::core::option::Option::Some(Self { #field: <#ty as #krate::protocol::Type>::read_binary(bytes)? })
            }
        },
        _ => quote!(),
    };
    quote! {
        #[automatically_derived]
        impl #krate::protocol::Type for #name {
            #binary

            fn describe(types: &mut #krate::protocol::Types) -> #krate::protocol::TypeRef {
                types.define(#wit, ::core::any::type_name::<Self>(), |types| {
                    let _ = &types;
                    #krate::protocol::TypeDef::Record(::std::vec![#(
                        #krate::protocol::Field {
                            name: ::std::string::String::from(#names),
                            ty: <#types as #krate::protocol::Type>::describe(types),
                        }
                    ),*])
                })
            }

            fn encode<S: #krate::protocol::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                use #krate::protocol::serde::ser::SerializeStruct as _;
                #[allow(unused_mut)]
                let mut record = to.serialize_struct(#wit, #len)?;
                #(record.serialize_field(#names, &#krate::protocol::value::Encode(&self.#idents))?;)*
                record.end()
            }

            fn decode<'de, D: #krate::protocol::serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                use #krate::protocol::serde::de;
                use #krate::protocol::value;
                struct Fields { by_position: bool }
                const NAMES: &[&str] = &[#(#names),*];
                impl<'de> de::Visitor<'de> for Fields {
                    type Value = #name;

                    fn expecting(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                        f.write_str(concat!("a record `", #wit, "`"))
                    }

                    #[allow(unused_mut, unused_variables)]
                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> ::core::result::Result<#name, A::Error> {
                        if !self.by_position {
                            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
                        }
                        Ok(#name { #(#idents: value::next_field(&mut seq, #names)?),* })
                    }

                    #[allow(unused_mut)]
                    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> ::core::result::Result<#name, A::Error> {
                        #(let mut #read: ::core::option::Option<#types> = None;)*
                        let members = value::MemberSeed { of: #wit, members: NAMES };
                        while let Some(value::Member(member)) = map.next_key_seed(members)? {
                            match member {
                                #(#positions => value::read_field(&mut map, &mut #read, #names)?,)*
                                _ => {}
                            }
                        }
                        Ok(#name { #(#idents: value::field(#read, #names)?),* })
                    }
                }
                let by_position = !from.is_human_readable();
                from.deserialize_struct(#wit, NAMES, Fields { by_position })
            }
        }
    }
}

fn newtype(krate: &TokenStream, name: &Ident, inner: &Type) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl #krate::protocol::Type for #name {
            const NULLABLE: bool = <#inner as #krate::protocol::Type>::NULLABLE;

            fn describe(types: &mut #krate::protocol::Types) -> #krate::protocol::TypeRef {
                <#inner as #krate::protocol::Type>::describe(types)
            }

            fn encode<S: #krate::protocol::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                <#inner as #krate::protocol::Type>::encode(&self.0, to)
            }

            fn decode<'de, D: #krate::protocol::serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                <#inner as #krate::protocol::Type>::decode(from).map(#name)
            }

            fn absent() -> ::core::option::Option<Self> {
                <#inner as #krate::protocol::Type>::absent().map(#name)
            }
        }
    }
}

fn flags(krate: &TokenStream, name: &Ident, fields: &FieldsNamed) -> Result<TokenStream> {
    let wit = to_kebab(&name.to_string());
    for field in &fields.named {
        if !matches!(&field.ty, Type::Path(path) if path.path.is_ident("bool")) {
            return Err(Error::new_spanned(&field.ty, "a flag is a `bool`"));
        }
    }
    if fields.named.is_empty() || fields.named.len() > 64 {
        return Err(Error::new_spanned(fields, "a set of flags has 1 to 64 of them"));
    }
    let idents: Vec<_> = fields.named.iter().filter_map(|field| field.ident.clone()).collect();
    let names: Vec<_> = idents.iter().map(|ident| to_kebab(&ident.to_string())).collect();
    let bits: Vec<_> = (0..idents.len()).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #krate::protocol::Type for #name {
            fn describe(types: &mut #krate::protocol::Types) -> #krate::protocol::TypeRef {
                types.define(#wit, ::core::any::type_name::<Self>(), |_| {
                    #krate::protocol::TypeDef::Flags(::std::vec![#(::std::string::String::from(#names)),*])
                })
            }

            fn encode<S: #krate::protocol::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                let bits = 0 #(| (u64::from(self.#idents) << #bits))*;
                #krate::protocol::value::encode_flags(bits, &[#(#names),*], to)
            }

            fn decode<'de, D: #krate::protocol::serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                let bits = #krate::protocol::value::decode_flags(#wit, &[#(#names),*], from)?;
                Ok(#name { #(#idents: (bits >> #bits) & 1 == 1),* })
            }
        }
    })
}

fn cases(krate: &TokenStream, name: &Ident, data: &DataEnum) -> Result<TokenStream> {
    if data.variants.is_empty() {
        return Err(Error::new_spanned(name, "an enum of an interface has at least one case"));
    }
    let wit = to_kebab(&name.to_string());
    let bare_only = data.variants.iter().all(|case| matches!(case.fields, Fields::Unit));
    let names: Vec<_> = data.variants.iter().map(|case| to_kebab(&case.ident.to_string())).collect();

    let (mut described, mut encoded, mut bare, mut carrying) = (vec![], vec![], vec![], vec![]);
    for (position, case) in data.variants.iter().enumerate() {
        let (ident, wit_case) = (&case.ident, &names[position]);
        let index = LitInt::new(&format!("{position}u32"), ident.span());
        let payload = match &case.fields {
            Fields::Unit => None,
            Fields::Unnamed(fields) => {
                let types: Vec<_> = fields.unnamed.iter().map(|field| &field.ty).collect();
                let values: Vec<_> = (0..types.len()).map(|at| format_ident!("value_{at}")).collect();
                Some((types, values))
            }
            Fields::Named(fields) => {
                let what = "a case has no named fields in WIT: give it a record";
                return Err(Error::new_spanned(fields, what));
            }
        };
        let ty = match &payload {
            None => quote!(None),
            Some((types, _)) => {
                let ty = payload_type(types);
                quote!(Some(<#ty as #krate::protocol::Type>::describe(types)))
            }
        };
        described.push(match bare_only {
            true => quote!(::std::string::String::from(#wit_case)),
            false => quote!(#krate::protocol::Case { name: ::std::string::String::from(#wit_case), ty: #ty }),
        });
        match payload {
            None => {
                let function = match bare_only {
                    true => quote!(encode_enum),
                    false => quote!(encode_bare_case),
                };
                encoded.push(quote!(#name::#ident => #krate::protocol::value::#function::<Self, S>(#index, to)));
                bare.push(quote!(#position => Some(#name::#ident)));
            }
            Some((types, values)) if values.len() == 1 => {
                let ty = types[0];
                encoded.push(quote!(#name::#ident(value) => #krate::protocol::value::encode_case::<Self, #ty, S>(#index, value, to)));
                carrying.push(quote!(#position => <#ty as #krate::protocol::Type>::decode(from).map(#name::#ident)));
            }
            Some((types, values)) => {
                let ty = payload_type(&types);
                // Borrowed fields as one tuple: each is written through a reference.
                encoded.push(quote!(#name::#ident(#(#values),*) => {
                    #krate::protocol::value::encode_case::<Self, _, S>(#index, &(#(#krate::protocol::value::Borrowed(#values),)*), to)
                }));
                carrying.push(quote!(#position => {
                    <#ty as #krate::protocol::Type>::decode(from).map(|(#(#values,)*)| #name::#ident(#(#values),*))
                }));
            }
        }
    }
    let kind = if bare_only { quote!(Enum) } else { quote!(Variant) };
    Ok(quote! {
        #[automatically_derived]
        impl #krate::protocol::value::Cases for #name {
            const NAME: &'static str = #wit;
            const CASES: &'static [&'static str] = &[#(#names),*];

            fn bare(index: usize) -> ::core::option::Option<Self> {
                match index {
                    #(#bare,)*
                    _ => None,
                }
            }

            #[allow(unused_variables)]
            fn carrying<'de, D: #krate::protocol::serde::Deserializer<'de>>(index: usize, from: D) -> ::core::result::Result<Self, D::Error> {
                match index {
                    #(#carrying,)*
                    _ => Err(#krate::protocol::serde::de::Error::custom(concat!("a case of `", #wit, "` that carries nothing"))),
                }
            }
        }

        #[automatically_derived]
        impl #krate::protocol::Type for #name {
            fn describe(types: &mut #krate::protocol::Types) -> #krate::protocol::TypeRef {
                types.define(#wit, ::core::any::type_name::<Self>(), |types| {
                    let _ = &types;
                    #krate::protocol::TypeDef::#kind(::std::vec![#(#described),*])
                })
            }

            fn encode<S: #krate::protocol::serde::Serializer>(&self, to: S) -> ::core::result::Result<S::Ok, S::Error> {
                match self {
                    #(#encoded,)*
                }
            }

            fn decode<'de, D: #krate::protocol::serde::Deserializer<'de>>(from: D) -> ::core::result::Result<Self, D::Error> {
                #krate::protocol::value::decode_cases::<Self, D>(from)
            }
        }
    })
}

fn payload_type(types: &[&Type]) -> TokenStream {
    match types {
        [one] => quote!(#one),
        several => quote!((#(#several,)*)),
    }
}

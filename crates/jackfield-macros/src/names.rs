//! Names of Rust as names of the interface.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// A Rust name as a WIT label: `FirstName` and `first_name` become `first-name`.
pub(crate) fn to_kebab(name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::with_capacity(name.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        if letter == '_' {
            if !kebab.is_empty() && !kebab.ends_with('-') {
                kebab.push('-');
            }
            continue;
        }
        let starts_word = at > 0
            && letter.is_uppercase()
            && (!letters[at - 1].is_uppercase() || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word && !kebab.is_empty() && !kebab.ends_with('-') {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab.trim_end_matches('-').to_owned()
}

/// The text of the doc comments, one paragraph a blank line.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

/// The crate that generated code refers to.
pub(crate) fn default_crate() -> TokenStream {
    quote!(::jackfield_plugin)
}

#[cfg(test)]
mod tests {
    use super::to_kebab;

    #[test]
    fn rust_names_become_wit_labels() {
        for (rust, wit) in [
            ("GreetError", "greet-error"),
            ("first_name", "first-name"),
            ("HTTPServer2", "http-server2"),
            ("r#type", "type"),
            ("_private", "private"),
            ("X", "x"),
            ("already", "already"),
        ] {
            assert_eq!(to_kebab(rust), wit);
        }
    }
}

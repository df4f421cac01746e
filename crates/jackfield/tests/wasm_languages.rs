//! One interface, six languages, and the same client.

#![cfg(feature = "wasm")]

mod suite;

use std::path::{Path, PathBuf};

use greeter_api::{GreetError, Greeter};
use jackfield::{CallError, Client, Comparison, Encoding, Host};
use library_api::{Book, Genre, Library, Query};

use suite::{Mechanism, fixtures, in_time};

const GREETERS: [&str; 9] = [
    "english-wasm",
    "english-component",
    "english-wasi",
    "uzbek-wasm",
    "greeter-c-wasm",
    "greeter-go-wasm",
    "greeter-assemblyscript",
    "greeter-js",
    "greeter-py-wasm",
];

fn plugins() -> PathBuf {
    fixtures::built(Mechanism::Extism, "zoo").join("../../plugins")
}

async fn host(plugin: &Path, encoding: Encoding) -> Host {
    let builder = Host::builder().plugin(plugin).cache_dir(fixtures::cache_dir()).encoding(encoding);
    // Long, since the largest of them take a while to compile when other tests do the same.
    let host = tokio::time::timeout(std::time::Duration::from_secs(300), builder.build()).await;
    let host = host.expect("in time").expect("a host");
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_greeter_greets_and_says_no_in_its_own_way() {
    for name in GREETERS {
        for encoding in [Encoding::Json, Encoding::Binary] {
            let host = host(&plugins().join(name), encoding).await;
            let greeter: Client<dyn Greeter> = host.get(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(*Client::comparison(&greeter), Comparison::Exact, "{name}");
            let hello = if name.starts_with("uzbek") { "Salom" } else { "Hello" };
            for person in ["Ada", "o\u{308}🦀\"\\\n", "a/b\t\u{2028}", &"я".repeat(100)] {
                let greeting = in_time(greeter.greet(person.to_owned())).await;
                assert_eq!(greeting, Ok(format!("{hello}, {person}!")), "{name} {person:?}");
            }
            let refusals = [("", GreetError::EmptyName), (&*"🦀".repeat(101), GreetError::TooLong(101))];
            for (person, error) in refusals {
                assert_eq!(in_time(greeter.greet(person.to_owned())).await, Err(CallError::Plugin(error)), "{name}");
            }
            in_time(host.stop()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_lists_are_the_same_in_rust_and_go() {
    let book = |title: &str, author: &str, year, genre| Book {
        title: title.to_owned(),
        authors: vec![author.to_owned()],
        year,
        genre,
    };
    let books = vec![
        book("Notes on the Analytical Engine", "Ada Lovelace", Some(1843), Genre::Science),
        book("O'tgan kunlar", "Abdulla Qodiriy", Some(1925), Genre::Novel),
        book("Ada, or Ardor", "Vladimir Nabokov", Some(1969), Genre::Novel),
        book("Poems", "Ada", None, Genre::Poetry),
    ];
    let query = |words: &str, genre, since| Query { words: words.to_owned(), genre, since };
    let queries =
        [query("ada", None, None), query("ADA", Some(Genre::Novel), Some(1900)), query("nothing like it", None, None)];
    let mut answers = Vec::new();
    for name in ["library-rust-wasm", "library-go-wasm"] {
        let host = host(&plugins().join(name), Encoding::Binary).await;
        let library: Client<dyn Library> = host.get(name).unwrap_or_else(|error| panic!("{error}"));
        let mut found = Vec::new();
        for query in &queries {
            found.push(in_time(library.search(books.clone(), query.clone())).await);
        }
        assert_eq!(found[0].as_ref().map(Vec::len), Ok(3), "{name}: {found:?}");
        found.push(in_time(library.search(books.clone(), query("", None, None))).await);
        answers.push(found);
        in_time(host.stop()).await;
    }
    assert_eq!(answers[0], answers[1]);
}

//! The library: an interface with records, lists, options and enums.

use jackfield_plugin::{Type, interface};

/// Finds books.
#[interface("demo:library/library@1.0.0")]
pub trait Library {
    /// Finds the books in which every word of the query stands, the best first.
    ///
    /// Words are separated by spaces; the case of the letters A to Z does not count. A word that is part
    /// of the title counts 2, one that is part of an author's name counts 1 more. Books that count the
    /// same stay in the order they were given in.
    fn search(&self, books: Vec<Book>, query: Query) -> Result<Vec<Hit>, SearchError>;
}

/// A book.
#[derive(Clone, Debug, PartialEq, Eq, Type)]
pub struct Book {
    pub title: String,
    pub authors: Vec<String>,
    /// When it came out, if that is known.
    pub year: Option<u16>,
    pub genre: Genre,
}

/// What kind of book it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Type)]
pub enum Genre {
    Novel,
    Poetry,
    Science,
    History,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Type)]
pub struct Query {
    pub words: String,
    /// Only books of this kind.
    pub genre: Option<Genre>,
    /// Only books of this year or later; a book without a year is not one.
    pub since: Option<u16>,
}

/// A book that was found.
#[derive(Clone, Debug, PartialEq, Eq, Type)]
pub struct Hit {
    pub book: Book,
    /// What its words count together.
    pub score: u32,
    /// Where they stand.
    pub places: Vec<Place>,
}

/// A part of a book's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Type)]
pub enum Place {
    Title,
    Authors,
}

/// Why nothing can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Type)]
pub enum SearchError {
    /// The query has no words.
    NoWords,
}

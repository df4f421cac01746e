//! Finds books. Nothing here knows that records and lists cross a border.

use library_api::{Book, Hit, Library, Place, Query, SearchError};

struct Catalogue;

impl Library for Catalogue {
    fn search(&self, books: Vec<Book>, query: Query) -> Result<Vec<Hit>, SearchError> {
        let words: Vec<String> = words(&query.words);
        if words.is_empty() {
            return Err(SearchError::NoWords);
        }
        let wanted = books.into_iter().filter(|book| is_wanted(book, &query));
        let mut hits: Vec<Hit> = wanted.filter_map(|book| find(book, &words)).collect();
        // A stable sort: books that count the same stay in their order.
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.score));
        Ok(hits)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect()
}

fn is_wanted(book: &Book, query: &Query) -> bool {
    let is_of_genre = query.genre.is_none_or(|genre| genre == book.genre);
    let is_recent = query.since.is_none_or(|since| book.year.is_some_and(|year| year >= since));
    is_of_genre && is_recent
}

/// The book as a hit, if every word stands in it.
fn find(book: Book, words: &[String]) -> Option<Hit> {
    let title = book.title.to_ascii_lowercase();
    let authors: Vec<String> = book.authors.iter().map(|author| author.to_ascii_lowercase()).collect();
    let (mut in_title, mut in_authors) = (0, 0);
    for word in words {
        let is_in_title = title.contains(word);
        let is_in_authors = authors.iter().any(|author| author.contains(word));
        if !is_in_title && !is_in_authors {
            return None;
        }
        in_title += u32::from(is_in_title);
        in_authors += u32::from(is_in_authors);
    }
    let mut places = Vec::new();
    if in_title > 0 {
        places.push(Place::Title);
    }
    if in_authors > 0 {
        places.push(Place::Authors);
    }
    Some(Hit { book, score: 2 * in_title + in_authors, places })
}

jackfield_plugin::export!(Catalogue: Library);

// A library in Go: an interface with records, lists, options and enums. protocol.go says how a host
// reaches it.
package main

import (
	"sort"
	"strings"
)

// The interface's types. An enum is a string, an option a pointer, and an empty list is [] and not null.
type book struct {
	Title   string   `json:"title"`
	Authors []string `json:"authors"`
	Year    *uint16  `json:"year"`
	Genre   string   `json:"genre"`
}

type query struct {
	Words string  `json:"words"`
	Genre *string `json:"genre"`
	Since *uint16 `json:"since"`
}

type hit struct {
	Book   book     `json:"book"`
	Score  uint32   `json:"score"`
	Places []string `json:"places"`
}

const (
	inTitle   = "title"
	inAuthors = "authors"
)

// searchError is the interface's enum `search-error`.
type searchError string

const noWords searchError = "no-words"

func search(books []book, q query) ([]hit, searchError) {
	words := strings.FieldsFunc(lower(q.Words), func(c rune) bool { return c == ' ' })
	if len(words) == 0 {
		return nil, noWords
	}
	hits := []hit{}
	for _, b := range books {
		if !q.wants(b) {
			continue
		}
		if h, found := find(b, words); found {
			hits = append(hits, h)
		}
	}
	// A stable sort: books that count the same stay in their order.
	sort.SliceStable(hits, func(i, j int) bool { return hits[i].Score > hits[j].Score })
	return hits, ""
}

func (q query) wants(b book) bool {
	isOfGenre := q.Genre == nil || *q.Genre == b.Genre
	isRecent := q.Since == nil || b.Year != nil && *b.Year >= *q.Since
	return isOfGenre && isRecent
}

// find makes a hit of the book, if every word stands in it.
func find(b book, words []string) (hit, bool) {
	h := hit{Book: b, Places: []string{}}
	var titles, authors uint32
	for _, word := range words {
		isInTitle := strings.Contains(lower(b.Title), word)
		isInAuthors := false
		for _, author := range b.Authors {
			isInAuthors = isInAuthors || strings.Contains(lower(author), word)
		}
		if !isInTitle && !isInAuthors {
			return hit{}, false
		}
		if isInTitle {
			titles++
		}
		if isInAuthors {
			authors++
		}
	}
	h.Score = 2*titles + authors
	if titles > 0 {
		h.Places = append(h.Places, inTitle)
	}
	if authors > 0 {
		h.Places = append(h.Places, inAuthors)
	}
	return h, true
}

// lower changes the letters A to Z alone: more is a matter of languages, on which plugins would differ.
func lower(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + ('a' - 'A')
		}
		return c
	}, text)
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// The library speaks JSON lines on stdin and stdout: docs/protocol.md. It answers one call after the
// other, which is all that WebAssembly's one thread could do.

// Of `id` only the text matters: it goes back as it came.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type reply struct {
	ID     json.RawMessage `json:"id"`
	Result any             `json:"result,omitempty"`
	Error  *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

const (
	codeParse          = -32700
	codeMethodNotFound = -32601
	codeInvalidParams  = -32602
	codeOwnError       = 1
)

const hello = `{"protocol":"1.0","plugin":{"name":"library-go","version":"1.0.0"},` +
	`"interfaces":["demo:library/library@1.0.0"]}`

func main() {
	// stdout belongs to the protocol: whatever else prints goes to the log.
	out := os.Stdout
	os.Stdout = os.Stderr

	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		r := reply{ID: json.RawMessage("null")}
		if err := json.Unmarshal(line, &m); err != nil {
			r.Error = &rpcError{Code: codeParse, Message: err.Error()}
		} else if m.Method == "jackfield/shutdown" {
			return
		} else if m.ID == nil {
			continue // other notifications want no answer
		} else {
			r = m.answer()
		}
		encoded, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		if _, err := out.Write(append(encoded, '\n')); err != nil {
			os.Exit(1) // the host is gone
		}
	}
}

func (m message) answer() reply {
	switch m.Method {
	case "jackfield/hello":
		return reply{ID: m.ID, Result: json.RawMessage(hello)}
	case "jackfield/ping":
		return reply{ID: m.ID, Result: json.RawMessage("null")}
	case "library.search":
		return m.search()
	}
	return m.fails(codeMethodNotFound, fmt.Sprintf("no method %q", m.Method), nil)
}

func (m message) search() reply {
	// What the types leave open, such as an enum's cases, the host has checked against the description.
	var given struct {
		Books []book `json:"books"`
		Query query  `json:"query"`
	}
	strict := json.NewDecoder(bytes.NewReader(m.Params))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&given); err != nil {
		return m.fails(codeInvalidParams, err.Error(), nil)
	}
	hits, no := search(given.Books, given.Query)
	if no != "" {
		return m.fails(codeOwnError, "the library says no", no)
	}
	return reply{ID: m.ID, Result: hits}
}

func (m message) fails(code int, text string, data any) reply {
	return reply{ID: m.ID, Error: &rpcError{Code: code, Message: text, Data: data}}
}

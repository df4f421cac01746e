package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// As a program the greeter speaks JSON lines on stdin and stdout: docs/protocol.md. So it does as a
// WASI command, which is a program in WebAssembly. Built as a shared library, main is never run.

// Of `id` only the text matters: it goes back as it came.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type reply struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

const (
	codeParse          = -32700
	codeMethodNotFound = -32601
	codeInvalidParams  = -32602
	codePanicked       = -32001
	codeOwnError       = 1
)

const hello = `{"protocol":"1.0","plugin":{"name":"greeter-go","version":"1.0.0"},` +
	`"capabilities":["greeting@1","batch@2","polite@1"],"interfaces":["demo:greeter/greeter@1.0.0"]}`

func main() {
	// stdout belongs to the protocol: whatever else prints goes to the log.
	out := output{to: os.Stdout}
	os.Stdout = os.Stderr

	var calls sync.WaitGroup
	defer calls.Wait() // at the end of input, too, calls under way are answered
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			out.write(reply{ID: json.RawMessage("null"), Error: &rpcError{Code: codeParse, Message: err.Error()}})
			continue
		}
		switch {
		case m.Method == "jackfield/shutdown":
			return
		case m.ID == nil:
			// Other notifications want no answer. A greeting is over before it can be cancelled.
		default:
			calls.Add(1)
			go func() {
				defer calls.Done()
				out.write(m.answer())
			}()
			// WebAssembly has one thread, and the next read takes it from every goroutine.
			if runtime.GOOS == "wasip1" {
				calls.Wait()
			}
		}
	}
}

func (m message) answer() reply {
	switch m.Method {
	case "jackfield/hello":
		return reply{ID: m.ID, Result: json.RawMessage(hello)}
	case "jackfield/ping":
		return reply{ID: m.ID, Result: json.RawMessage("null")}
	}
	function, ours := strings.CutPrefix(m.Method, "greeter.")
	if !ours {
		return m.fails(codeMethodNotFound, "no such method", nil)
	}
	answer, ended := call(function, m.Params)
	switch ended {
	case ok:
		return reply{ID: m.ID, Result: answer}
	case ownError:
		return m.fails(codeOwnError, "the greeter says no", answer)
	case badArguments:
		return m.fails(codeInvalidParams, string(answer), nil)
	case unimplemented:
		return m.fails(codeMethodNotFound, fmt.Sprintf("no function %q", function), nil)
	default:
		return m.fails(codePanicked, string(answer), nil)
	}
}

func (m message) fails(code int, text string, data []byte) reply {
	return reply{ID: m.ID, Error: &rpcError{Code: code, Message: text, Data: data}}
}

// output writes whole lines, one at a time.
type output struct {
	sync.Mutex
	to *os.File
}

func (o *output) write(r reply) {
	r.JSONRPC = "2.0"
	line := append(toJSON(r), '\n')
	o.Lock()
	defer o.Unlock()
	if _, err := o.to.Write(line); err != nil {
		os.Exit(1) // the host is gone
	}
}

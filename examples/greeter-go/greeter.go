// A greeter in Go. This file says what it does; process.go and native.go say how a host reaches it.
package main

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

const nameCharactersMax = 100

// greetError is the interface's variant `greet-error`: {"tag":"empty-name"} or
// {"tag":"too-long","val":120}.
type greetError struct {
	Tag string `json:"tag"`
	Val uint32 `json:"val,omitempty"`
}

func greet(name string) (string, *greetError) {
	characters := utf8.RuneCountInString(name)
	switch {
	case characters == 0:
		return "", &greetError{Tag: "empty-name"}
	case characters > nameCharactersMax:
		return "", &greetError{Tag: "too-long", Val: uint32(characters)}
	}
	return fmt.Sprintf("Hello, %s!", name), nil
}

// How a call ended. The numbers are those of jackfield.h; process.go has its own for them.
type status int32

const (
	ok            status = 0
	ownError      status = 1
	unimplemented status = 2
	badArguments  status = 3
	panicked      status = 4
)

// call makes a call: arguments and answer are JSON, except that an answer is plain text when it
// says what went wrong. A panic must not leave it: in the host's process it would end the host.
func call(function string, arguments []byte) (answer []byte, ended status) {
	defer func() {
		if caught := recover(); caught != nil {
			answer, ended = []byte(fmt.Sprint(caught)), panicked
		}
	}()
	if function != "greet" {
		return nil, unimplemented
	}
	// A map and not a struct, which would take `NAME` for `name` and a missing one for "".
	var given map[string]any
	if err := json.Unmarshal(arguments, &given); err != nil && len(arguments) > 0 {
		return []byte(err.Error()), badArguments
	}
	name, isString := given["name"].(string)
	if !isString || len(given) != 1 {
		return []byte("`greet` wants the argument `name`, a string, and no other"), badArguments
	}
	greeting, err := greet(name)
	if err != nil {
		return toJSON(err), ownError
	}
	return toJSON(greeting), ok
}

func toJSON(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return encoded
}

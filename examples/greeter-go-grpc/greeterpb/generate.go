// Package greeterpb is generated from examples/greeter-api/greeter.proto: `go generate ./greeterpb`. What
// that needs is in the README.
package greeterpb

//go:generate python3 -m grpc_tools.protoc -I../../greeter-api --go_out=. --go_opt=paths=source_relative,Mgreeter.proto=greeter-go-grpc/greeterpb --go-grpc_out=. --go-grpc_opt=paths=source_relative,Mgreeter.proto=greeter-go-grpc/greeterpb greeter.proto

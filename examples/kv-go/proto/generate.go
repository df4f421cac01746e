// Package proto is generated from examples/kv/proto/kv.proto: `go generate ./proto`. What that needs is
// in the README.
package proto

//go:generate python3 -m grpc_tools.protoc -I../../kv/proto --go_out=. --go_opt=paths=source_relative,Mkv.proto=kv-go/proto --go-grpc_out=. --go-grpc_opt=paths=source_relative,Mkv.proto=kv-go/proto kv.proto

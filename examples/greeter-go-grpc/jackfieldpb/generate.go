// Package jackfieldpb is generated from jackfield/plugin/v1/plugin.proto, in which a plugin says what it
// is: `go generate ./jackfieldpb`. What that needs is in the README.
package jackfieldpb

//go:generate python3 -m grpc_tools.protoc -I../../../crates/jackfield-grpc/proto --go_out=.. --go_opt=module=greeter-go-grpc,Mjackfield/plugin/v1/plugin.proto=greeter-go-grpc/jackfieldpb --go-grpc_out=.. --go-grpc_opt=module=greeter-go-grpc,Mjackfield/plugin/v1/plugin.proto=greeter-go-grpc/jackfieldpb jackfield/plugin/v1/plugin.proto

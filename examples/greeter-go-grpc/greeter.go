package main

import (
	"context"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/emptypb"

	"greeter-go-grpc/greeterpb"
)

const nameCharactersMax = 100

type greeter struct {
	greeterpb.UnimplementedGreeterServer
}

// Greet answers with an error of the interface where it says no. The error of Go, the second value, would
// be a call that failed.
func (greeter) Greet(_ context.Context, request *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	characters := utf8.RuneCountInString(request.Name)
	switch {
	case characters == 0:
		return no(&greeterpb.GreetError{Kind: &greeterpb.GreetError_EmptyName{EmptyName: &emptypb.Empty{}}}), nil
	case characters > nameCharactersMax:
		return no(&greeterpb.GreetError{Kind: &greeterpb.GreetError_TooLong{TooLong: uint32(characters)}}), nil
	}
	greeting := fmt.Sprintf("Hello, %s!", request.Name)
	return &greeterpb.GreetResponse{Result: &greeterpb.GreetResponse_Ok{Ok: greeting}}, nil
}

func no(err *greeterpb.GreetError) *greeterpb.GreetResponse {
	return &greeterpb.GreetResponse{Result: &greeterpb.GreetResponse_Err{Err: err}}
}

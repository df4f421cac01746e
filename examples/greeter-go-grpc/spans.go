package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"greeter-go-grpc/greeterpb"
)

// A host that takes spans says so beside each call that is recorded, and takes them beside the answer: one JSON object
// each, the same in every language.
const (
	spansWanted = "jackfield-spans"
	spanHome    = "jackfield-span-bin"
)

// span is what a host exports for us: we have no exporter, and no way to a collector.
type span struct {
	Span   string `json:"span"`
	Parent string `json:"parent"`
	Name   string `json:"name"`
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
	Error  string `json:"error,omitempty"`
}

// serveInSpan makes a span around each call.
func serveInSpan(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	begun := time.Now()
	response, err := handler(ctx, request)
	trace, parent, wanted := spanOf(ctx)
	if !wanted {
		return response, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // It does not fail.
	own := span{
		Span:   "00-" + trace + "-" + hex.EncodeToString(id[:]) + "-01",
		Parent: parent,
		Name:   strings.TrimPrefix(info.FullMethod, "/"),
		Start:  begun.UnixNano(),
		End:    time.Now().UnixNano(),
	}
	if err != nil {
		own.Error = "refused"
	} else if greeted, is := response.(*greeterpb.GreetResponse); is && greeted.GetErr() != nil {
		own.Error = "error"
	}
	home, _ := json.Marshal(own) // Strings and numbers.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(spanHome, string(home)))
	return response, err
}

// spanOf is the span of the host's that the call was made in, if the host wants ours.
func spanOf(ctx context.Context) (trace, parent string, wanted bool) {
	came, _ := metadata.FromIncomingContext(ctx)
	first := func(name string) string { return append(came.Get(name), "")[0] }
	parts := strings.Split(first("traceparent"), "-")
	if first(spansWanted) != "1" || len(parts) < 4 {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// greeter-go-grpc is the greeter in Go, as a plugin of hashicorp/go-plugin.
package main

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"greeter-go-grpc/greeterpb"
	"greeter-go-grpc/jackfieldpb"
)

// handshake is the one of Jackfield's hosts. A host of another kind has its own, and so had the plugin
// for it.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "JACKFIELD_PLUGIN",
	MagicCookieValue: "e1175a800c4fa0d925279cd55e158c6e16f7c3354a0ac53c8695f42cc953781f",
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{"greeter": &greeterPlugin{}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.UnaryInterceptor(serveInSpan))...)
		},
	})
}

// greeterPlugin has two services: the interface, and what says that it is offered.
type greeterPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (*greeterPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	greeterpb.RegisterGreeterServer(server, greeter{})
	jackfieldpb.RegisterPluginServer(server, about{})
	return nil
}

func (*greeterPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return greeterpb.NewGreeterClient(conn), nil
}

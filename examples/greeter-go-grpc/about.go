package main

import (
	"context"
	"runtime/debug"

	"greeter-go-grpc/greeterpb"
	"greeter-go-grpc/jackfieldpb"
)

// about says what the plugin is, to a host that asks before its first call. A plugin without it can be
// loaded, too; its capabilities stand in the manifest then.
type about struct {
	jackfieldpb.UnimplementedPluginServer
}

func (about) Capabilities(
	context.Context, *jackfieldpb.CapabilitiesRequest,
) (*jackfieldpb.CapabilitiesResponse, error) {
	return &jackfieldpb.CapabilitiesResponse{
		Protocol:     "1.0",
		Name:         "greeter-go-grpc",
		Version:      "1.0.0",
		Sdk:          sdk(),
		Capabilities: []string{"greeting@1", "batch@2", "polite@1"},
		Interfaces: []*jackfieldpb.OfferedInterface{{
			Id: "demo:greeter/greeter@1.0.0",
			// The description lies beside the manifest, which names it.
			Service: greeterpb.Greeter_ServiceDesc.ServiceName,
		}},
	}, nil
}

// sdk is the go-plugin that we were built with.
func sdk() string {
	const path = "github.com/hashicorp/go-plugin"
	if info, known := debug.ReadBuildInfo(); known {
		for _, module := range info.Deps {
			if module.Path == path {
				return "hashicorp/go-plugin " + module.Version
			}
		}
	}
	return "hashicorp/go-plugin"
}

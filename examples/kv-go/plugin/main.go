// kv-go is a plugin of hashicorp/go-plugin: a store of values.
package main

import (
	"github.com/hashicorp/go-plugin"

	"kv-go/kv"
)

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: kv.Handshake,
		Plugins:         plugin.PluginSet{kv.Name: &kv.Plugin{Store: newStore()}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}

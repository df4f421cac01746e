// kv-go-host is a host of hashicorp/go-plugin that uses a plugin with a store of values:
//
//	kv-go-host -plugin PATH [-tls] [-mux] [-v] put hello world get hello
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"kv-go/kv"
)

func main() {
	program := flag.String("plugin", "", "the plugin's program")
	tls := flag.Bool("tls", false, "AutoMTLS")
	mux := flag.Bool("mux", false, "the broker's connections go through the main one")
	verbose := flag.Bool("v", false, "the log of go-plugin and of the plugin on stderr")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "kv-go-host -plugin PATH [-tls] [-mux] [-v] (put KEY VALUE | get KEY)…")
		flag.PrintDefaults()
	}
	flag.Parse()
	level := hclog.Off
	if *verbose {
		level = hclog.Trace
	}
	err := run(&plugin.ClientConfig{
		HandshakeConfig:     kv.Handshake,
		Plugins:             plugin.PluginSet{kv.Name: &kv.Plugin{}},
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:                 exec.Command(*program),
		AutoMTLS:            *tls,
		GRPCBrokerMultiplex: *mux,
		Logger:              hclog.New(&hclog.LoggerOptions{Level: level, Output: os.Stderr}),
	}, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run starts the plugin, does what the words say, and ends the plugin.
func run(config *plugin.ClientConfig, words []string) error {
	client := plugin.NewClient(config)
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		return err
	}
	dispensed, err := protocol.Dispense(kv.Name)
	if err != nil {
		return err
	}
	store := dispensed.(kv.Store)
	ctx := context.Background()
	for len(words) > 0 {
		switch {
		case words[0] == "put" && len(words) >= 3:
			if err := store.Put(ctx, words[1], []byte(words[2])); err != nil {
				return err
			}
			words = words[3:]
		case words[0] == "get" && len(words) >= 2:
			value, err := store.Get(ctx, words[1])
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", value)
			words = words[2:]
		default:
			return errors.New("after the flags, `put KEY VALUE` and `get KEY`, as often as wanted")
		}
	}
	return nil
}

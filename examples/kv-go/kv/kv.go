// Package kv is what the plugin and the host share.
package kv

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"kv-go/proto"
)

// Name is the plugin's in go-plugin's map, on either side.
const Name = "kv"

// Handshake is what both sides have to agree on.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "BASIC_PLUGIN",
	MagicCookieValue: "hello",
}

// Store keeps values.
type Store interface {
	// Get gives the value under a key, or an error if nothing was put there.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put keeps a value in place of what was there.
	Put(ctx context.Context, key string, value []byte) error
}

// Plugin is the Store as go-plugin wants it. The host leaves Store empty.
type Plugin struct {
	plugin.NetRPCUnsupportedPlugin
	Store Store
}

func (p *Plugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	proto.RegisterKVServer(server, &served{store: p.Store})
	return nil
}

func (p *Plugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &client{proto.NewKVClient(conn)}, nil
}

// client is the host's side of a Store.
type client struct {
	kv proto.KVClient
}

func (c *client) Get(ctx context.Context, key string) ([]byte, error) {
	answer, err := c.kv.Get(ctx, &proto.GetRequest{Key: key})
	return answer.GetValue(), err
}

func (c *client) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.kv.Put(ctx, &proto.PutRequest{Key: key, Value: value})
	return err
}

// served is the plugin's side of one.
type served struct {
	proto.UnimplementedKVServer
	store Store
}

func (s *served) Get(ctx context.Context, request *proto.GetRequest) (*proto.GetResponse, error) {
	value, err := s.store.Get(ctx, request.Key)
	if err != nil {
		return nil, err
	}
	return &proto.GetResponse{Value: value}, nil
}

func (s *served) Put(ctx context.Context, request *proto.PutRequest) (*proto.Empty, error) {
	return &proto.Empty{}, s.store.Put(ctx, request.Key, request.Value)
}

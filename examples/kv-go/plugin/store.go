package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// store keeps values in memory, and in the file that the variable KV_FILE names, if it names one.
type store struct {
	file   string
	mutex  sync.Mutex
	values map[string][]byte // nil until the first use
}

func newStore() *store {
	return &store{file: os.Getenv("KV_FILE")}
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	value, found := s.values[key]
	if !found {
		return nil, status.Errorf(codes.NotFound, "nothing under the key %q", key)
	}
	return value, nil
}

func (s *store) Put(_ context.Context, key string, value []byte) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	s.values[key] = value
	return s.save()
}

// load reads the file at the first use, not at the start, so that a bad one is the error of a call.
func (s *store) load() error {
	if s.values != nil {
		return nil
	}
	values := map[string][]byte{}
	if s.file != "" {
		text, err := os.ReadFile(s.file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return status.Error(codes.Internal, err.Error())
		default:
			if err := json.Unmarshal(text, &values); err != nil {
				return status.Errorf(codes.DataLoss, "%s: %v", s.file, err)
			}
		}
	}
	s.values = values
	return nil
}

// save writes beside the file and renames, so that there is never half of one.
func (s *store) save() error {
	if s.file == "" {
		return nil
	}
	text, err := json.Marshal(s.values)
	if err == nil {
		err = os.WriteFile(s.file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(s.file+".new", s.file)
	}
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

package imagestore

import (
	"context"
	"io"
	"os"

	"github.com/sirupsen/logrus"
)

// Store holds images, their unpacked layers and the root file systems made of them.
type Store struct{}

func Open(ctx context.Context, root string, cfg Config, log logrus.FieldLogger) (*Store, error) {
	return nil, ErrInUse
}
func (s *Store) Close() error { return nil }
func (s *Store) Pull(ctx context.Context, ref string, auth *Auth) (*Image, error) {
	return nil, ErrUnavailable
}
func (s *Store) Image(ref string) (*Image, error)             { return nil, ErrNotFound }
func (s *Store) Images() []*Image                             { return nil }
func (s *Store) Remove(ctx context.Context, ref string) error { return nil }
func (s *Store) Usage(ctx context.Context) (Usage, error)     { return Usage{}, nil }
func (s *Store) Import(ctx context.Context, r io.Reader, name string) ([]*Image, error) {
	return nil, ErrCorrupt
}
func (s *Store) PrepareSnapshot(ctx context.Context, key, imageID string) error { return ErrNotFound }
func (s *Store) MountSnapshot(key string) (*os.File, error)                     { return nil, ErrNotFound }
func (s *Store) MountImage(imageID string) (*os.File, error)                    { return nil, ErrNotFound }
func (s *Store) RemoveSnapshot(key string) error                                { return nil }
func (s *Store) Snapshots() ([]string, error)                                   { return nil, nil }

package registry

import (
	"fmt"

	"github.com/berth-runtime/berth/test/images"
)

// StartFull starts a server that has all images but the hostile ones, and returns the
// builder that they came from.
func StartFull() (*Server, *images.Builder, error) {
	builder, err := images.New()
	if err != nil {
		return nil, nil, err
	}
	catalog, err := builder.Catalog()
	if err != nil {
		return nil, nil, err
	}
	formats, err := builder.Formats()
	if err != nil {
		return nil, nil, err
	}
	server, err := Start()
	if err != nil {
		return nil, nil, err
	}
	if err := server.Push(append(catalog, formats...)...); err != nil {
		return nil, nil, fmt.Errorf("fill registry: %w", err)
	}
	return server, builder, nil
}

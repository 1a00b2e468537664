package images

import v1 "github.com/google/go-containerregistry/pkg/v1"

// Health is an image that serves gRPC's health protocol on port 5000; programs/health says how. It is not in the catalog,
// since building the program takes its time.
const Health = FormatHost + "/health:latest"

// Health builds that image.
func (b *Builder) Health() ([]Named, error) {
	program, err := Program("test/images/programs/health")
	if err != nil {
		return nil, err
	}
	tree := new(Tree).File("bin/health", 0o755, program)
	return b.named([]product{{recipe{layers: []*Tree{b.base, tree}, config: v1.Config{Cmd: []string{"health"}}}, []string{Health}}})
}

package imagestore

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// names are what one pull gives to an image.
type names struct{ tags, digests []string }

// parseReference normalises as docker does: "busybox" is docker.io/library/busybox:latest, and of a tag with a digest the digest counts.
func parseReference(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrInvalidReference, ref, err)
	}
	return named, nil
}

// namesOf are the tag, if it has one, and the repository's name with the digest that it resolved to.
func namesOf(ref reference.Named, resolved string) names {
	var n names
	if _, tagged := ref.(reference.Tagged); tagged {
		n.tags = []string{ref.String()}
	}
	if resolved != "" {
		n.digests = []string{ref.Name() + "@" + resolved}
	}
	return n
}

// isHex tells whether s may be the beginning of an image id without its algorithm.
func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

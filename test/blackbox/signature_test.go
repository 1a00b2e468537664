package blackbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// TestRootRefusedImages: kubelet looks for SignatureValidationFailed at the start of the message.
func TestRootRefusedImages(t *testing.T) {
	programs := t.TempDir()
	check(t, os.WriteFile(filepath.Join(programs, "judge"), []byte("#!/bin/sh\ncase $2 in *:3) echo not this one; exit 1;; esac\n"), 0o755))
	d := harness.Start(t, harness.Options{Registry: bed.Server, Config: `
[images.verification]
verifier_dir = "` + programs + `"
[[images.verification.rules]]
images = "` + strings.TrimSuffix(staging, "/") + `"
action = "reject"
[[images.verification.rules]]
images = "` + staging + `test-image-tags"
action = "accept"
`})
	for ref, why := range map[string]string{staging + "test-image-1": "no rule accepts", staging + "test-image-tags:3": "not this one"} {
		_, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
		wantError(t, err, codes.Unknown, why)
		if text := status.Convert(err).Message(); !strings.HasPrefix(text, "SignatureValidationFailed: ") {
			t.Errorf("%s: %q", ref, text)
		}
	}
	want(t, "images", len(listImages(t, d, "")), 0)
	d.Pull(staging + "test-image-tags:1")
}

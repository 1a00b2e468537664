package rival

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

// TestRootPod has containerd pull an image and run a pod whose line gets into its log, and leave nothing behind.
func TestRootPod(t *testing.T) {
	harness.NeedRoot(t)
	if os.Getenv("BERTH_TEST_RIVAL") == "" {
		t.Skip("builds containerd: it is for comparisons (BERTH_TEST_RIVAL=1)")
	}
	server, _, err := registry.StartFull()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var dir, state, parent string
	t.Run("life", func(t *testing.T) {
		c := Start(t, Options{Registry: server, Pull: []string{images.Busybox}})
		dir, state, parent = c.Dir, c.state, c.CgroupParent
		log := runPod(t, c)
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			text, err := os.ReadFile(log)
			if err == nil && strings.Contains(string(text), "stdout F hello") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("log: %q, %v", text, err)
			}
		}
	})
	for _, pattern := range []string{dir, state, "/sys/fs/cgroup" + parent, "/sys/fs/cgroup/*" + parent} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// runPod runs one on the node's network that says hello, and returns its log.
func runPod(t *testing.T, c *Containerd) string {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pod := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: "p", Uid: "u", Namespace: "n"},
		LogDirectory: filepath.Join(c.Dir, "logs"),
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: c.CgroupParent, SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
		}},
	}
	sandbox, err := c.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	container, err := c.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: sandbox.PodSandboxId, SandboxConfig: pod, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "c"}, Image: &cri.ImageSpec{Image: images.Busybox}, LogPath: "c.log",
		Command: []string{"sh", "-c", "echo hello; sleep 3600"}, Linux: &cri.LinuxContainerConfig{},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container.ContainerId}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(pod.LogDirectory, "c.log")
}

package blackbox

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

func TestRootVersionAndStatus(t *testing.T) {
	d := bare(t)
	v, err := d.Runtime.Version(d.Context(), &cri.VersionRequest{})
	check(t, err)
	want(t, "runtime's name", v.RuntimeName, "berth")
	want(t, "API version", v.RuntimeApiVersion, "v1")
	if v.Version == "" || len(strings.Split(v.RuntimeVersion, ".")) != 3 {
		t.Errorf("versions %v", v)
	}
	s, err := d.Runtime.Status(d.Context(), &cri.StatusRequest{})
	check(t, err)
	for _, name := range []string{"RuntimeReady", "NetworkReady"} {
		found := false
		for _, c := range s.Status.Conditions {
			if c.Type == name {
				found = true
				if !c.Status {
					t.Errorf("%s is false: %s %s", name, c.Reason, c.Message)
				}
			}
		}
		if !found {
			t.Errorf("no condition %s in %v", name, s.Status.Conditions)
		}
	}
	handler := false
	for _, h := range s.RuntimeHandlers {
		handler = handler || h.Name == ""
	}
	if !handler {
		t.Errorf("the default handler is not among %v", s.RuntimeHandlers)
	}
	config, err := d.Runtime.RuntimeConfig(d.Context(), &cri.RuntimeConfigRequest{})
	check(t, err)
	want(t, "cgroup driver", config.Linux.CgroupDriver, cri.CgroupDriver_CGROUPFS)
	_, err = d.Runtime.UpdateRuntimeConfig(d.Context(), &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: d.Subnet}}})
	check(t, err)
}

// TestRootVerboseStatus: crictl info has the configuration by the keys of its file, and the paths that are used.
func TestRootVerboseStatus(t *testing.T) {
	d := bare(t)
	s, err := d.Runtime.Status(d.Context(), &cri.StatusRequest{Verbose: true})
	check(t, err)
	var got struct {
		Socket, Keeper string
		Network        struct {
			Bridge string `json:"builtin_bridge"`
		}
	}
	check(t, json.Unmarshal([]byte(s.Info["config"]), &got))
	want(t, "socket", got.Socket, d.Socket)
	want(t, "bridge", got.Network.Bridge, d.Bridge)
	if info, err := os.Stat(got.Keeper); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("keeper %q: %v", got.Keeper, err)
	}
}

func TestRootSocket(t *testing.T) {
	d := bare(t)
	info, err := os.Stat(d.Socket)
	check(t, err)
	want(t, "mode of the socket", info.Mode().Perm(), 0o660)
	keeper, err := os.Stat(filepath.Join(d.State, "keeper"))
	check(t, err)
	want(t, "mode of the keeper's directory", keeper.Mode().Perm(), 0o700)
}

func TestRootPodCIDR(t *testing.T) {
	d := start(t)
	_, err := d.Runtime.UpdateRuntimeConfig(d.Context(), &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.63.7.0/24"}}})
	check(t, err)
	pod := d.RunPod(d.PodConfig("cidr"))
	if !strings.HasPrefix(pod.IP(), "10.63.7.") {
		t.Errorf("address %s is not of the pod CIDR", pod.IP())
	}
}

func TestRootTwoDaemonsSideBySide(t *testing.T) {
	one := start(t)
	two := harness.Start(t, harness.Options{Registry: bed.Server, Pull: []string{images.Busybox}, Beside: one})
	var containers []*harness.Container
	for _, d := range []*harness.Daemon{one, two} {
		pod := d.RunPod(d.PodConfig("same-name"))
		containers = append(containers, pod.Run(harness.ContainerConfig("c", harness.Sleep)))
	}
	if one.Keeper() == two.Keeper() {
		t.Error("they share a keeper")
	}
	want(t, "the one's answer", containers[0].Exec("echo one"), "one")
	want(t, "the other's answer", containers[1].Exec("echo two"), "two")
	_, err := two.Runtime.ContainerStatus(two.Context(), &cri.ContainerStatusRequest{ContainerId: containers[0].ID})
	wantError(t, err, codes.NotFound)
	one.Kill()
	want(t, "the other's answer after the one's death", containers[1].Exec("echo two"), "two")
	one.Restart()
	want(t, "the one's answer after its restart", containers[0].Exec("echo one"), "one")
}

func TestRootSecondStart(t *testing.T) {
	d := bare(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, flags := range map[string][]string{
		"all the same":   {"--root", d.Root, "--state", d.State, "--socket", d.Socket},
		"the same root":  {"--root", d.Root, "--state", filepath.Join(d.Dir, "other-state")},
		"the same state": {"--root", filepath.Join(d.Dir, "other-root"), "--state", d.State},
		"the same socket": {
			"--root", filepath.Join(d.Dir, "other-root"), "--state", filepath.Join(d.Dir, "other-state"), "--socket", d.Socket,
		},
	} {
		c := d.Command(append([]string{"serve", "--config", filepath.Join(d.Dir, "config.toml")}, flags...)...)
		out, err := runFor(ctx, c)
		if err == nil {
			t.Errorf("%s: the second daemon ended without an error: %s", name, out)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: the second daemon went on running", name)
		}
		if !strings.Contains(out, "served by a live daemon") && !strings.Contains(out, "live daemon") {
			t.Errorf("%s: it does not say why: %s", name, out)
		}
		d.Ready() // the first goes on
	}
}

// runFor runs a command until it ends or ctx does.
func runFor(ctx context.Context, c *exec.Cmd) (string, error) {
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
	defer stop()
	err := c.Wait()
	return out.String(), err
}

func TestRootStaleSocket(t *testing.T) {
	d := start(t)
	d.Kill()
	if _, err := os.Stat(d.Socket); err != nil {
		t.Errorf("a killed daemon's socket: %v", err)
	}
	d.Restart()
}

func TestRootBadConfiguration(t *testing.T) {
	d := bare(t)
	for text, says := range map[string]string{
		"no_such_key = 1\n":                  "no_such_key",
		"[network]\nbuiltin_bridge = 7\n":    "config-under-test.toml:2:18",
		"[network]\nbuiltin_bridge = \"\"\n": "builtin_bridge",
		"root = \"relative\"\n":              "root",
		"this is no TOML\n":                  "config-under-test.toml",
	} {
		path := filepath.Join(d.Dir, "config-under-test.toml")
		check(t, os.WriteFile(path, []byte(text), 0o644))
		out, err := d.Command("serve", "--config", path, "--state", filepath.Join(d.Dir, "elsewhere")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%q: %v: %s", text, err, out)
		}
	}
	out, err := d.Command("serve", "--config", filepath.Join(d.Dir, "absent.toml")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "absent.toml") {
		t.Errorf("a configuration that is not there: %v: %s", err, out)
	}
}

func TestRootKeeperEndsWithAGracefulStop(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("keep")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	keeper := d.Keeper()
	d.Stop()
	if d.Keeper() != keeper {
		t.Errorf("the keeper %d with a container went with the daemon", keeper)
	}
	d.Restart()
	want(t, "keeper after the restart", d.Keeper(), keeper)
	c.Exec("true")
	pod.Remove()
	d.Stop()
	d.Eventually("the keeper that keeps nothing to end", func() bool { return d.Keeper() == 0 })
}

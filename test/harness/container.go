package harness

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// eager tries again at once when the daemon is away, so that restarts are measured
// and not gRPC's back-off.
var eager = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 2 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
	MinConnectTimeout: 5 * time.Second,
}

// Container is a container that a test runs.
type Container struct {
	ID     string
	Config *cri.ContainerConfig
	pod    *Pod
}

// Create makes a container and leaves it unstarted.
func (p *Pod) Create(config *cri.ContainerConfig) *Container {
	p.d.t.Helper()
	r, err := p.d.Runtime.CreateContainer(p.d.Context(), &cri.CreateContainerRequest{PodSandboxId: p.ID, Config: config, SandboxConfig: p.Config})
	if err != nil {
		p.d.t.Fatalf("create container %s: %v", config.Metadata.Name, err)
	}
	return &Container{r.ContainerId, config, p}
}

// Run makes and starts a container.
func (p *Pod) Run(config *cri.ContainerConfig) *Container {
	p.d.t.Helper()
	c := p.Create(config)
	c.Start()
	return c
}

// Start starts the container.
func (c *Container) Start() {
	c.pod.d.t.Helper()
	if _, err := c.pod.d.Runtime.StartContainer(c.pod.d.Context(), &cri.StartContainerRequest{ContainerId: c.ID}); err != nil {
		c.pod.d.t.Fatalf("start container %s: %v", c.Config.Metadata.Name, err)
	}
}

// Status is what the daemon says of the container.
func (c *Container) Status() *cri.ContainerStatus {
	c.pod.d.t.Helper()
	r, err := c.pod.d.Runtime.ContainerStatus(c.pod.d.Context(), &cri.ContainerStatusRequest{ContainerId: c.ID})
	if err != nil {
		c.pod.d.t.Fatalf("status of container %s: %v", c.Config.Metadata.Name, err)
	}
	return r.Status
}

// PID is that of the container's first process on the host, as its verbose status has it.
func (c *Container) PID() int {
	c.pod.d.t.Helper()
	r, err := c.pod.d.Runtime.ContainerStatus(c.pod.d.Context(), &cri.ContainerStatusRequest{ContainerId: c.ID, Verbose: true})
	var info struct{ PID int }
	if err == nil {
		err = json.Unmarshal([]byte(r.Info["info"]), &info)
	}
	if err != nil || info.PID == 0 {
		c.pod.d.t.Fatalf("process of container %s: %d, %v", c.Config.Metadata.Name, info.PID, err)
	}
	return info.PID
}

// Wait waits until the container has exited, and returns its status.
func (c *Container) Wait() *cri.ContainerStatus {
	c.pod.d.t.Helper()
	var status *cri.ContainerStatus
	c.pod.d.Eventually("container "+c.Config.Metadata.Name+" to exit", func() bool {
		status = c.Status()
		return status.State == cri.ContainerState_CONTAINER_EXITED
	})
	return status
}

// Stop stops the container; grace is in seconds.
func (c *Container) Stop(grace int64) {
	c.pod.d.t.Helper()
	if _, err := c.pod.d.Runtime.StopContainer(c.pod.d.Context(), &cri.StopContainerRequest{ContainerId: c.ID, Timeout: grace}); err != nil {
		c.pod.d.t.Fatalf("stop container %s: %v", c.Config.Metadata.Name, err)
	}
}

// Remove removes the container.
func (c *Container) Remove() {
	c.pod.d.t.Helper()
	if _, err := c.pod.d.Runtime.RemoveContainer(c.pod.d.Context(), &cri.RemoveContainerRequest{ContainerId: c.ID}); err != nil {
		c.pod.d.t.Fatalf("remove container %s: %v", c.Config.Metadata.Name, err)
	}
}

// TryExec runs a command in the container; timeout is in seconds.
func (c *Container) TryExec(timeout int64, command ...string) (*cri.ExecSyncResponse, error) {
	return c.pod.d.Runtime.ExecSync(c.pod.d.Context(), &cri.ExecSyncRequest{ContainerId: c.ID, Cmd: command, Timeout: timeout})
}

// Exec runs a shell script in the container, which must succeed, and returns what
// it printed, trimmed.
func (c *Container) Exec(script string) string {
	c.pod.d.t.Helper()
	r, err := c.TryExec(20, "sh", "-c", script)
	if err != nil {
		c.pod.d.t.Fatalf("exec %q in container %s: %v", script, c.Config.Metadata.Name, err)
	}
	if r.ExitCode != 0 {
		c.pod.d.t.Fatalf("exec %q in container %s: exit code %d: %s%s", script, c.Config.Metadata.Name, r.ExitCode, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(string(r.Stdout))
}

// Line is one of a container's log, as CRI has it.
type Line struct {
	Time   time.Time
	Stream string // stdout or stderr
	Full   bool   // F; else it goes on in the next line of the stream
	Text   string
}

// Log returns the container's log as it is now. A line that is not in CRI's form
// ends the test; one that is being written is left out.
func (c *Container) Log() []Line {
	c.pod.d.t.Helper()
	return ReadLog(c.pod.d.t, filepath.Join(c.pod.Config.LogDirectory, c.Config.LogPath))
}

// ReadLog is Log of a file that may have been rotated away.
func ReadLog(t TB, path string) []Line {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []Line
	for raw := range strings.Lines(string(text)) {
		if !strings.HasSuffix(raw, "\n") {
			break
		}
		l, err := parseLine(strings.TrimSuffix(raw, "\n"))
		if err != nil {
			t.Fatalf("log %s: %v", path, err)
		}
		out = append(out, l)
	}
	return out
}

func parseLine(raw string) (Line, error) {
	f := strings.SplitN(raw, " ", 4)
	if len(f) != 4 || f[1] != "stdout" && f[1] != "stderr" || f[2] != "F" && f[2] != "P" {
		return Line{}, fmt.Errorf("line %q is not in CRI's form", raw)
	}
	at, err := time.Parse(time.RFC3339Nano, f[0])
	if err != nil {
		return Line{}, fmt.Errorf("line %q: %w", raw, err)
	}
	return Line{at, f[1], f[2] == "F", f[3]}, nil
}

// Output returns what the container has written to a stream so far.
func (c *Container) Output(stream string) string {
	c.pod.d.t.Helper()
	var out strings.Builder
	for _, l := range c.Log() {
		if l.Stream != stream {
			continue
		}
		out.WriteString(l.Text)
		if l.Full {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// Listening waits until something answers at a TCP address.
func (d *Daemon) Listening(address string) {
	d.t.Helper()
	d.Eventually("a listener at "+address, func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

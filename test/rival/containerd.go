package rival

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/runtimes"
)

// Pause is the image that a pod of containerd's needs. It is pulled as every other.
const Pause = images.Pause

// patience bounds everything that is waited for.
const patience = time.Minute

// Mirror is what containerd pulls from; *registry.Server is one.
type Mirror interface {
	WriteCerts(dir string, extra ...string) error // hosts.toml for each registry that it stands in for
}

// Options of a containerd. The zero value has no images, and so no pods.
type Options struct {
	Registry Mirror
	Pull     []string // references that it has pulled before Start returns
	Config   string   // TOML beyond what Start writes
}

// Containerd is a running one.
type Containerd struct {
	Dir          string // holds all of its directories but the state; also what logs and the like may be put below
	Socket       string // of CRI
	CgroupParent string // for its pods; goes with it
	LogFile      string

	Runtime cri.RuntimeServiceClient
	Images  cri.ImageServiceClient

	t           harness.TB
	root, state string
	process     *exec.Cmd
	ended       chan struct{}
	conn        *grpc.ClientConn
}

// Start runs a containerd until the test ends, with overlayfs on the file system of temporary files. It builds it first,
// which takes minutes once, and skips the test without root.
func Start(t harness.TB, o Options) *Containerd {
	t.Helper()
	harness.NeedRoot(t)
	name := "rival" + strings.ToLower(rand.Text()[:8])
	c := &Containerd{t: t, Dir: filepath.Join(os.TempDir(), "berth-"+name), CgroupParent: "/berth-" + name, state: "/dev/shm/berth-" + name}
	c.root, c.Socket, c.LogFile = filepath.Join(c.Dir, "root"), filepath.Join(c.state, "c.sock"), filepath.Join(c.Dir, "containerd.log")
	programs, err := build()
	c.must("build containerd", err)
	runc, err := runtimes.Path("runc")
	c.must("find runc", err)
	t.Cleanup(c.finish)
	path, err := c.writeConfig(programs, runc, o)
	c.must("configure containerd", err)
	c.must("start containerd", c.launch(filepath.Join(programs, "containerd"), path))
	c.connect()
	for _, ref := range o.Pull {
		c.Pull(ref)
	}
	return c
}

// PID is the daemon's process.
func (c *Containerd) PID() int { return c.process.Process.Pid }

// Pull pulls an image and returns its id.
func (c *Containerd) Pull(ref string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	r, err := c.Images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	c.must("pull "+ref, err)
	return r.ImageRef
}

func (c *Containerd) launch(program, config string) error {
	log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c.process = exec.Command(program, "--config", config, "--log-level", "warn")
	c.process.Dir, c.process.Stdout, c.process.Stderr = "/", log, log
	c.process.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Unshareflags: unix.CLONE_NEWNS}
	if err := c.process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.ended = ended
	go func(p *exec.Cmd) { // ends with the process
		_ = p.Wait() // how it ended is told by its log
		close(ended)
	}(c.process)
	return nil
}

// connect makes the clients, and waits until CRI is served.
func (c *Containerd) connect() {
	c.t.Helper()
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	c.must("connect", err)
	c.conn = conn
	c.Runtime, c.Images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for {
		_, err := c.Runtime.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return
		}
		select {
		case <-c.ended:
			c.must("wait for containerd", fmt.Errorf("it ended: %w", err))
		case <-ctx.Done():
			c.must("wait for containerd", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// must ends the test on an error, with what containerd said last.
func (c *Containerd) must(doing string, err error) {
	c.t.Helper()
	if err == nil {
		return
	}
	log, _ := os.ReadFile(c.LogFile) // it may not have begun
	c.t.Fatalf("%s: %v\n%s", doing, err, log[max(0, len(log)-4000):])
}

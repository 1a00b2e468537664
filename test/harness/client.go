package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// connect makes the clients. The connection outlives restarts of the daemon.
func (d *Daemon) connect() {
	d.t.Helper()
	conn, err := grpc.NewClient("unix://"+d.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(d.note),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)), // kubelet's bound
		grpc.WithConnectParams(eager),
	)
	d.must(err)
	d.conn = conn
	d.Runtime, d.Images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	d.Ready()
}

// note remembers the ids that the daemon gives, for the leak check.
func (d *Daemon) note(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil {
		switch r := reply.(type) {
		case *cri.RunPodSandboxResponse:
			d.own(r.PodSandboxId)
		case *cri.CreateContainerResponse:
			d.own(r.ContainerId)
		case *cri.ListPodSandboxResponse:
			for _, p := range r.Items {
				d.own(p.Id)
			}
		}
	}
	return err
}

func (d *Daemon) own(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != "" {
		d.ids[id] = true
	}
}

// Context is the test's, bounded by what a call may take.
func (d *Daemon) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), patience)
	d.t.Cleanup(cancel)
	return ctx
}

// Pull pulls an image and returns its id.
func (d *Daemon) Pull(ref string) string {
	d.t.Helper()
	r, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		d.t.Fatalf("pull %s: %v", ref, err)
	}
	return r.ImageRef
}

// Crictl runs crictl against the daemon and returns what it printed on both
// outputs, trimmed.
func (d *Daemon) Crictl(args ...string) (string, error) {
	d.t.Helper()
	c := d.CrictlCommand(args...)
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("crictl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// CrictlCommand is a crictl for the daemon, not yet started.
func (d *Daemon) CrictlCommand(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(d.bin, "crictl"), append([]string{"--config", filepath.Join(d.Dir, "crictl.yaml")}, args...)...)
	c.Env = append(os.Environ(), "BERTH_TEST_NAME="+d.Name)
	return c
}

// MustCrictl is Crictl that ends the test on an error.
func (d *Daemon) MustCrictl(args ...string) string {
	d.t.Helper()
	out, err := d.Crictl(args...)
	d.must(err)
	return out
}

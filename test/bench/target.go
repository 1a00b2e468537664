package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/registry"
	"github.com/berth-runtime/berth/test/rival"
)

// target is the runtime that is measured.
type target struct {
	bed     *bed
	daemon  *harness.Daemon // nil when it is not ours
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	options options
	logs    string
	parent  string
	run     string // unique to this run: part of the pods' identities
}

// target connects to the endpoint, or starts a berth.
func (b *bed) target(o options) *target {
	t := &target{bed: b, options: o, run: fmt.Sprintf("bench-%d", os.Getpid())}
	if o.endpoint == "" {
		return b.berth(o, b.registry())
	}
	conn, err := grpc.NewClient(o.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	t.must("connect", err)
	b.Cleanup(func() { conn.Close() })
	t.runtime, t.images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	t.logs, err = os.MkdirTemp("", "berth-bench-")
	t.must("make log directory", err)
	b.Cleanup(func() { os.RemoveAll(t.logs) })
	t.parent = "/" + t.run
	return t
}

// berth starts one.
func (b *bed) berth(o options, from *registry.Server) *target {
	d := harness.Start(b, harness.Options{Registry: from, Pull: []string{o.image}, Flags: []string{"--log-level=warn"}})
	// No parent: the configured one, which is there already, as those of kubelet's pods are.
	return &target{bed: b, daemon: d, runtime: d.Runtime, images: d.Images, options: o, logs: d.LogDirectory(), run: fmt.Sprintf("bench-%d", os.Getpid())}
}

// containerd starts one.
func (b *bed) containerd(o options, from *registry.Server) *target {
	c := rival.Start(b, rival.Options{Registry: from, Pull: []string{o.image, rival.Pause}})
	return &target{bed: b, runtime: c.Runtime, images: c.Images, options: o, logs: filepath.Join(c.Dir, "logs"), parent: c.CgroupParent, run: fmt.Sprintf("rival-%d", os.Getpid())}
}

// undecoded is a client that leaves answers as they come: what a thousand containers are made of by who asked for them is
// that one's time, and no runtime's.
func (t *target) undecoded() cri.RuntimeServiceClient {
	endpoint := t.options.endpoint
	if t.daemon != nil {
		endpoint = "unix://" + t.daemon.Socket
	}
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.ForceCodec(requestsOnly{})))
	t.must("connect", err)
	t.bed.Cleanup(func() { conn.Close() })
	return cri.NewRuntimeServiceClient(conn)
}

// requestsOnly is gRPC's codec for protobuf, but for answers.
type requestsOnly struct{}

func (requestsOnly) Name() string                  { return "proto" }
func (requestsOnly) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }
func (requestsOnly) Unmarshal([]byte, any) error   { return nil }

// registry serves the image that is run.
func (b *bed) registry() *registry.Server {
	server, _, err := registry.StartFull()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	return server
}

func (t *target) must(doing string, err error) {
	if err != nil {
		t.bed.Fatalf("%s: %v", doing, err)
	}
}

func (t *target) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.bed.ctx, 2*time.Minute)
}

// pod is one with one container.
type pod struct {
	id, container       string
	run, create, launch time.Duration
}

func (p pod) up() time.Duration { return p.run + p.create + p.launch }

// name is that of the pod with that number.
func (t *target) name(number int) string { return fmt.Sprintf("%s-%d", t.run, number) }

// start runs a pod and a container that sleeps.
func (t *target) start(number int) (pod, error) {
	return t.startWith(number, func(*cri.ContainerConfig) {})
}

// startWith runs a pod, and a container that change makes another than one that sleeps.
func (t *target) startWith(number int, change func(*cri.ContainerConfig)) (pod, error) {
	ctx, cancel := t.context()
	defer cancel()
	name := t.name(number)
	network, hostname := cri.NamespaceMode_POD, name
	if t.options.hostNet {
		network, hostname = cri.NamespaceMode_NODE, ""
	}
	config := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "bench"}, Hostname: hostname,
		LogDirectory: filepath.Join(t.logs, name),
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: t.parent, SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
		}},
	}
	var p pod
	begin := time.Now()
	sandbox, err := t.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return p, fmt.Errorf("run pod: %w", err)
	}
	p.id, p.run = sandbox.PodSandboxId, time.Since(begin)
	asked := t.container(network)
	change(asked)
	begin = time.Now()
	container, err := t.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: config, Config: asked})
	if err != nil {
		return p, fmt.Errorf("create container: %w", err)
	}
	p.container, p.create = container.ContainerId, time.Since(begin)
	begin = time.Now()
	if _, err = t.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		return p, fmt.Errorf("start container: %w", err)
	}
	p.launch = time.Since(begin)
	return p, nil
}

func (t *target) container(network cri.NamespaceMode) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "sleep"}, Image: &cri.ImageSpec{Image: t.options.image}, Command: []string{"sleep", "3600"}, LogPath: "sleep.log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 100},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// exec runs true in the pod's container and returns how long that took.
func (t *target) exec(p pod) (time.Duration, error) {
	ctx, cancel := t.context()
	defer cancel()
	begin := time.Now()
	r, err := t.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"true"}, Timeout: 10})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", r.ExitCode, r.Stderr)
	}
	if err != nil {
		return 0, fmt.Errorf("exec true: %w", err)
	}
	return time.Since(begin), nil
}

// end stops and removes a pod, without grace.
func (t *target) end(p pod) (time.Duration, error) {
	ctx, cancel := t.context()
	defer cancel()
	begin := time.Now()
	if _, err := t.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return 0, fmt.Errorf("stop pod: %w", err)
	}
	if _, err := t.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return 0, fmt.Errorf("remove pod: %w", err)
	}
	return time.Since(begin), nil
}

// warm has the image there, and everything done once that a first pod does.
func (t *target) warm(o options) {
	ctx, cancel := t.context()
	defer cancel()
	status, err := t.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: o.image}})
	t.must("find image", err)
	if status.Image == nil {
		_, err = t.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: o.image}})
		t.must("pull image", err)
	}
	for i := range 3 {
		p, err := t.start(-1 - i)
		t.must("warm up", err)
		_, err = t.exec(p)
		t.must("warm up", err)
		_, err = t.end(p)
		t.must("warm up", err)
	}
}

// pids are the processes of the runtime itself.
func (t *target) pids(b *bed) []int {
	if t.daemon != nil {
		return append(t.daemon.Zygotes(), t.daemon.PID(), t.daemon.Keeper())
	}
	pids, err := named(strings.Split(t.options.processes, ","))
	t.must("find the runtime's processes", err)
	return pids
}

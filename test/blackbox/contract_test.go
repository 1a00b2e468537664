package blackbox

import (
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// verdict is how a method answers a request that names nothing, and one that names what isn't there.
type verdict struct{ empty, unknown codes.Code }

// verdicts has every method of CRI but streams. An idempotent one has done what it is asked of something unknown; kubelet takes
// NotFound alone for "it is gone"; and a lack is InvalidArgument. Where nothing is named, both are the same.
var verdicts = map[string]verdict{
	"Version": {}, "Status": {}, "RuntimeConfig": {}, "UpdateRuntimeConfig": {}, "ListMetricDescriptors": {}, "ListPodSandboxMetrics": {},
	"ListPodSandbox": {}, "ListContainers": {}, "ListContainerStats": {}, "ListPodSandboxStats": {}, "ListImages": {}, "ImageFsInfo": {},

	"StopPodSandbox": {codes.InvalidArgument, codes.OK}, "RemovePodSandbox": {codes.InvalidArgument, codes.OK},
	"StopContainer": {codes.InvalidArgument, codes.OK}, "RemoveContainer": {codes.InvalidArgument, codes.OK},

	"PodSandboxStatus": {codes.InvalidArgument, codes.NotFound}, "ContainerStatus": {codes.InvalidArgument, codes.NotFound},
	"PodSandboxStats": {codes.InvalidArgument, codes.NotFound}, "ContainerStats": {codes.InvalidArgument, codes.NotFound},
	"StartContainer": {codes.InvalidArgument, codes.NotFound}, "UpdateContainerResources": {codes.InvalidArgument, codes.NotFound},
	"UpdatePodSandboxResources": {codes.InvalidArgument, codes.NotFound}, "ReopenContainerLog": {codes.InvalidArgument, codes.NotFound},

	// These want more than an id.
	"ExecSync": {codes.InvalidArgument, codes.InvalidArgument}, "Exec": {codes.InvalidArgument, codes.InvalidArgument},
	"Attach": {codes.InvalidArgument, codes.InvalidArgument}, "PortForward": {codes.InvalidArgument, codes.NotFound},
	"RunPodSandbox": {codes.InvalidArgument, codes.InvalidArgument}, "CreateContainer": {codes.InvalidArgument, codes.InvalidArgument},
	"PullImage": {codes.InvalidArgument, codes.InvalidArgument}, "ImageStatus": {codes.InvalidArgument, codes.InvalidArgument},
	"RemoveImage":         {codes.InvalidArgument, codes.InvalidArgument},
	"CheckpointContainer": {codes.InvalidArgument, codes.InvalidArgument}, "CheckpointPod": {codes.InvalidArgument, codes.InvalidArgument},
	"RestorePod": {codes.InvalidArgument, codes.InvalidArgument},
}

// TestRootEveryMethod: no method of CRI is without its verdict, and each holds to it.
func TestRootEveryMethod(t *testing.T) {
	d := start(t)
	conn := dial(t, d)
	judged := 0
	for _, service := range []grpc.ServiceDesc{cri.RuntimeService_ServiceDesc, cri.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			want, known := verdicts[m.MethodName]
			req, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("runtime.v1." + m.MethodName + "Request"))
			check(t, err)
			invoke := func(in proto.Message) error {
				return conn.Invoke(d.Context(), "/"+service.ServiceName+"/"+m.MethodName, in, &emptypb.Empty{})
			}
			empty := invoke(req.New().Interface())
			if !known {
				t.Errorf("%s has no verdict: %v", m.MethodName, empty)
				continue
			}
			judged++
			if got := status.Code(empty); got != want.empty {
				t.Errorf("%s of nothing: %v, wanted %s", m.MethodName, empty, want.empty)
			}
			named := req.New()
			for _, field := range []string{"pod_sandbox_id", "container_id"} {
				if fd := named.Descriptor().Fields().ByName(protoreflect.Name(field)); fd != nil {
					named.Set(fd, protoreflect.ValueOfString(unknown))
				}
			}
			if err := invoke(named.Interface()); status.Code(err) != want.unknown {
				t.Errorf("%s of what isn't there: %v, wanted %s", m.MethodName, err, want.unknown)
			}
		}
	}
	want(t, "methods that were judged", judged, len(verdicts))
}

// dial connects past the harness, which knows some messages.
func dial(t *testing.T, d *harness.Daemon) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestRootWrongStates: what a container or pod can't do in its state is refused as such, and changes nothing.
func TestRootWrongStates(t *testing.T) {
	d := start(t)
	ctx := d.Context()
	call := func(_ any, err error) error { return err }
	inside := func(id string) map[string]error {
		return map[string]error{
			"ExecSync":           call(d.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})),
			"Exec":               call(d.Runtime.Exec(ctx, &cri.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Stdout: true})),
			"Attach":             call(d.Runtime.Attach(ctx, &cri.AttachRequest{ContainerId: id, Stdout: true})),
			"ContainerStats":     call(d.Runtime.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: id})),
			"ReopenContainerLog": call(d.Runtime.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: id})),
		}
	}
	refused := func(when string, calls map[string]error) {
		t.Helper()
		for name, err := range calls {
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%s of %s: %v, wanted FailedPrecondition", name, when, err)
			}
		}
	}
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("states")))
	created := pod.Create(harness.ContainerConfig("created", harness.Sleep))
	refused("a container that is not started", inside(created.ID))

	running := pod.Run(harness.ContainerConfig("running", harness.Sleep))
	refused("a running container", map[string]error{
		"StartContainer": call(d.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: running.ID})),
	})
	want(t, "state", running.Status().State, cri.ContainerState_CONTAINER_RUNNING)

	running.Stop(0)
	log := running.Status().LogPath
	check(t, os.Rename(log, log+".1")) // as kubelet does before it asks; on an error it renames back
	exited := inside(running.ID)
	exited["StartContainer"] = call(d.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: running.ID}))
	exited["UpdateContainerResources"] = updateResources(d, running.ID, &cri.LinuxContainerResources{CpuShares: 2})
	refused("an exited container", exited)
	if _, err := os.Stat(log); !os.IsNotExist(err) {
		t.Errorf("a log that was not reopened is there: %v", err)
	}

	pod.Stop()
	refused("a stopped pod", map[string]error{
		"CreateContainer": call(d.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: harness.ContainerConfig("late", "true"), SandboxConfig: pod.Config})),
		"StartContainer":  call(d.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.ID})),
		"PortForward":     call(d.Runtime.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: pod.ID, Port: []int32{80}})),
		"PodSandboxStats": call(d.Runtime.PodSandboxStats(ctx, &cri.PodSandboxStatsRequest{PodSandboxId: pod.ID})),
	})
	// These go on to work.
	for name, err := range map[string]error{
		"StopPodSandbox":   call(d.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.ID})),
		"PodSandboxStatus": call(d.Runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod.ID})),
		"ContainerStatus":  call(d.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: running.ID})),
		"StopContainer":    call(d.Runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: created.ID})),
	} {
		if err != nil {
			t.Errorf("%s in a stopped pod: %v", name, err)
		}
	}
}

// TestRootRequiredFields: kubelet's client refuses an answer without these (cri-client, utils.go), and identifies an image by one id
// everywhere.
func TestRootRequiredFields(t *testing.T) {
	d := bare(t)
	pulled, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
	check(t, err)
	config := d.PodConfig("fields")
	config.Labels = map[string]string{"io.kubernetes.pod.uid": config.Metadata.Uid}
	pod := d.RunPod(config)
	asKubelet := harness.ContainerConfig("c", harness.Sleep)
	asKubelet.Image = &cri.ImageSpec{Image: pulled.ImageRef, UserSpecifiedImage: images.Busybox}
	asKubelet.Labels = config.Labels
	c := pod.Run(asKubelet)

	p := pod.Status()
	if p.Id != pod.ID || p.Metadata.GetName() == "" || p.Metadata.Namespace == "" || p.Metadata.Uid == "" || p.CreatedAt == 0 || p.Network.GetIp() == "" {
		t.Errorf("pod %v", p)
	}
	s := c.Status()
	if s.Id != c.ID || s.Metadata.GetName() == "" || s.CreatedAt == 0 || s.StartedAt == 0 || s.Image.GetImage() == "" || s.ImageRef == "" || s.LogPath == "" {
		t.Errorf("container %v", s)
	}
	image := imageStatus(t, d, images.Busybox)
	if image.GetSize() == 0 || len(image.RepoTags) == 0 {
		t.Errorf("image %v", image)
	}
	// kubelet looks for a single pod's containers by its label.
	list, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: config.Labels}})
	check(t, err)
	if len(list.Containers) != 1 {
		t.Fatalf("containers of the pod: %v", list.Containers)
	}
	ids := []string{pulled.ImageRef, image.Id, s.ImageId, list.Containers[0].ImageId}
	if !strings.HasPrefix(ids[0], "sha256:") || len(slices.Compact(ids)) != 1 {
		t.Errorf("the image has the ids %q", ids)
	}
}

// TestRootEnvironmentOfBytes: since CRI 0.37 a variable's value is bytes, of any encoding.
func TestRootEnvironmentOfBytes(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("bytes")))
	config := harness.ContainerConfig("c", `printf %s "$ODD" | hexdump -ve '1/1 "%02x"'; echo`)
	config.Envs = []*cri.KeyValue{{Key: "ODD", Value: []byte{0xff, 0xfe, 'x', 0x80}}}
	c := pod.Run(config)
	c.Wait()
	want(t, "value", strings.TrimSpace(c.Output("stdout")), "fffe7880")
	config = harness.ContainerConfig("nul", "true")
	config.Envs = []*cri.KeyValue{{Key: "ODD", Value: []byte("a\x00b")}}
	_, err := d.Runtime.CreateContainer(d.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	wantError(t, err, codes.InvalidArgument, "envs")
}

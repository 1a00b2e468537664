package fuzz

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	"github.com/berth-runtime/berth/test/registry"
)

const (
	// settle bounds a request; one that may take longer is given up then.
	settle = 5 * time.Second
	// mostPods are there at once.
	mostPods = 12
	// targetVariable tells a fuzzing process, of which there are several, of the daemon that the first one runs.
	targetVariable = "BERTH_FUZZ_TARGET"
)

// target is the daemon that requests are sent to.
type target struct {
	Socket, Dir, Parent, Subnet string
	conn                        *grpc.ClientConn
	runtime                     cri.RuntimeServiceClient
	sent                        int
}

// method is one of CRI's.
type method struct {
	path   string
	req    protoreflect.MessageType
	stream bool
}

// methods are all of both services, in their order.
func methods(t testing.TB) []method {
	t.Helper()
	var out []method
	for _, service := range []grpc.ServiceDesc{cri.RuntimeService_ServiceDesc, cri.ImageService_ServiceDesc} {
		add := func(name string, stream bool) {
			request := strings.Replace(name, "GetContainerEvents", "GetEvents", 1) + "Request"
			req, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("runtime.v1." + request))
			if err != nil {
				t.Fatalf("request of %s: %v", name, err)
			}
			out = append(out, method{"/" + service.ServiceName + "/" + name, req, stream})
		}
		for _, m := range service.Methods {
			add(m.MethodName, false)
		}
		for _, s := range service.Streams {
			add(s.StreamName, true)
		}
	}
	slices.SortFunc(out, func(a, b method) int { return strings.Compare(a.path, b.path) })
	return out
}

func FuzzRequests(f *testing.F) {
	harness.NeedRoot(f)
	to := open(f)
	all := methods(f)
	for i, m := range all {
		f.Add(uint16(i), append([]byte{asSent}, to.seed(f, m)...))
		f.Add(uint16(i), []byte(nil))
		f.Add(uint16(i), []byte{1})
	}
	f.Fuzz(func(t *testing.T, which uint16, raw []byte) {
		m, req := to.request(t, all, which, raw)
		to.fill(req)
		place{to.Dir, to.Parent, to.Subnet}.tame(req)
		err := to.send(t.Context(), m, req)
		text, _ := json.Marshal(req)
		switch status.Code(err) {
		case codes.Internal, codes.Unavailable:
			if strings.Contains(fmt.Sprint(err), "error while marshaling") {
				return // it never left
			}
			t.Errorf("%s: %v\nfor %s", m.path, err, text)
		case codes.Unknown:
			t.Logf("%s: %v\nfor %s", m.path, err, text)
			note(m, err)
		}
		to.answers(t)
		to.keep(t)
	})
}

// asSent as the first byte says that the others are the request as it is sent.
const asSent = 0

// often are the methods that do the most with what they are sent: every other request that is made up is one of them.
var often = []string{"RunPodSandbox", "CreateContainer", "UpdateContainerResources", "ExecSync"}

// request makes a request of what the fuzzer has. That sees no coverage of the daemon, and would go on in the same few places;
// so the bytes that aren't a request themselves are only the beginning of a random sequence.
func (to *target) request(t *testing.T, all []method, which uint16, raw []byte) (method, proto.Message) {
	m := all[int(which)%len(all)]
	if len(raw) > 0 && raw[0] == asSent {
		req := m.req.New().Interface()
		if proto.Unmarshal(raw[1:], req) == nil {
			return m, req
		}
	}
	h := fnv.New64()
	_, _ = h.Write(raw)
	random := rand.New(rand.NewPCG(h.Sum64(), uint64(which)))
	s := make(source, 4096)
	for i := range s {
		s[i] = byte(random.Uint32())
	}
	m = all[random.IntN(len(all))]
	if s.next()%2 == 0 {
		name := often[random.IntN(len(often))]
		m = all[slices.IndexFunc(all, func(m method) bool { return strings.HasSuffix(m.path, "/"+name) })]
	}
	req := m.req.New().Interface()
	if s.next()%4 == 0 {
		s.invent(req.ProtoReflect(), 0)
		return m, req
	}
	if err := proto.Unmarshal(to.seed(t, m), req); err != nil { // a good one, changed in some places
		t.Fatal(err)
	}
	for range s.next() % 4 {
		s.change(req.ProtoReflect())
	}
	return m, req
}

// note keeps errors without a code of their own, for somebody to look at: BERTH_FUZZ_NOTES names the file.
func note(m method, err error) {
	path := os.Getenv("BERTH_FUZZ_NOTES")
	if path == "" {
		return
	}
	out, openErr := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if openErr != nil {
		return
	}
	defer out.Close()
	fmt.Fprintf(out, "%s: %v\n", m.path, err)
}

// open starts a daemon, or finds that of the process that started this one.
func open(f *testing.F) *target {
	f.Helper()
	to := &target{}
	if worker := flag.Lookup("test.fuzzworker"); worker == nil || worker.Value.String() != "true" {
		server, _, err := registry.StartFull()
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { server.Close() })
		d := harness.Start(f, harness.Options{Registry: server, Pull: []string{images.Busybox}, Config: "\n[images]\npull_progress_timeout = \"2s\"\n"})
		to.Socket, to.Dir, to.Parent, to.Subnet = d.Socket, filepath.Join(d.Dir, "fuzz"), d.CgroupParent, d.Subnet
		if err := os.MkdirAll(to.Dir, 0o755); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(watch(f, d))
		text, err := json.Marshal(to)
		if err != nil {
			f.Fatal(err)
		}
		f.Setenv(targetVariable, string(text))
	} else if err := json.Unmarshal([]byte(os.Getenv(targetVariable)), to); err != nil {
		f.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+to.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	to.conn, to.runtime = conn, cri.NewRuntimeServiceClient(conn)
	return to
}

// watch returns what says at the end whether the daemon lived through it all, and what it holds open.
func watch(f *testing.F, d *harness.Daemon) func() {
	pid, before := d.PID(), descriptors(d.PID())
	return func() {
		if d.Ended() || d.PID() != pid {
			f.Error("the daemon has ended")
			return
		}
		text, err := os.ReadFile(d.LogFile)
		if err != nil || strings.Contains(string(text), "request panicked") {
			f.Errorf("a request panicked, see the log (%v)", err)
		}
		// Pods are still there: each has some. What leaks with each request is more.
		if after := descriptors(pid); after > before+200 {
			f.Errorf("the daemon has %d descriptors open, before it had %d", after, before)
		}
	}
}

func descriptors(pid int) int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(list)
}

// seed is a good request, as far as a zero one isn't.
func (to *target) seed(t testing.TB, m method) []byte {
	t.Helper()
	to.sent++
	meta := &cri.PodSandboxMetadata{Name: fmt.Sprint("seed", os.Getpid(), to.sent), Uid: "seed-uid", Namespace: "fuzz"}
	linux := &cri.LinuxPodSandboxConfig{CgroupParent: to.Parent + "/seed"}
	container := &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: fmt.Sprint("seed", os.Getpid(), to.sent)}, Image: &cri.ImageSpec{Image: "$IMAGE"}, Command: []string{"a", "b"}, LogPath: "seed.log"}
	var req proto.Message
	switch name := m.path[strings.LastIndex(m.path, "/")+1:]; name {
	case "RunPodSandbox":
		req = &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{Metadata: meta, LogDirectory: "/logs", Linux: linux}}
	case "CreateContainer":
		req = &cri.CreateContainerRequest{PodSandboxId: "$POD", Config: container}
	case "PullImage":
		req = &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "$IMAGE"}}
	case "ExecSync":
		req = &cri.ExecSyncRequest{ContainerId: "$CONTAINER", Cmd: []string{"true"}, Timeout: 1}
	case "UpdateContainerResources":
		req = &cri.UpdateContainerResourcesRequest{ContainerId: "$CONTAINER", Linux: &cri.LinuxContainerResources{CpuShares: 100}}
	default: // ids are most of what the others have
		req = m.req.New().Interface()
		fields := req.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if fd := fields.Get(i); fd.Kind() == protoreflect.StringKind && fd.Cardinality() != protoreflect.Repeated {
				word := "$CONTAINER"
				if strings.HasPrefix(string(fd.Name()), "pod") {
					word = "$POD"
				}
				req.ProtoReflect().Set(fd, protoreflect.ValueOfString(word))
			}
		}
	}
	raw, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fill puts the ids of what is there in the places that were left for them.
func (to *target) fill(req proto.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	values := map[string]string{"$IMAGE": images.Busybox, "$POD": "none", "$CONTAINER": "none"}
	if list, err := to.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err == nil && len(list.Items) > 0 {
		values["$POD"] = list.Items[to.sent%len(list.Items)].Id
	}
	if list, err := to.runtime.ListContainers(ctx, &cri.ListContainersRequest{}); err == nil && len(list.Containers) > 0 {
		values["$CONTAINER"] = list.Containers[to.sent%len(list.Containers)].Id
	}
	walk(req.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if fd.Kind() == protoreflect.StringKind && !fd.IsMap() && !fd.IsList() {
			if value, ok := values[m.Get(fd).String()]; ok {
				m.Set(fd, protoreflect.ValueOfString(value))
			}
		}
	})
}

// send waits for the answer, as long as that can be waited for; of a stream for some messages.
func (to *target) send(ctx context.Context, m method, req proto.Message) error {
	to.sent++
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	answer := &emptypb.Empty{} // whatever fields it has are kept as unknown ones
	if !m.stream {
		return to.conn.Invoke(ctx, m.path, req, answer)
	}
	ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	stream, err := to.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, m.path)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil {
		return err
	}
	_ = stream.CloseSend()
	for range 5 {
		if err := stream.RecvMsg(answer); err != nil {
			return nil
		}
	}
	return nil
}

// answers holds the daemon to answering at once.
func (to *target) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*settle)
	defer cancel()
	if _, err := to.runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
		t.Fatalf("the daemon doesn't answer any more: %v", err)
	}
}

// keep removes pods when there are many, which must go, whatever was asked of them; and runs a container when none does.
func (to *target) keep(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := to.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) > mostPods {
		for _, p := range list.Items {
			if _, err := to.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
				t.Errorf("remove pod %s: %v", p.Id, err)
			}
		}
	}
	running, err := to.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
	}})
	if err == nil && len(running.Containers) == 0 {
		to.populate(ctx, t)
	}
}

// populate runs a good pod with a container. Others may take its image away meanwhile.
func (to *target) populate(ctx context.Context, t *testing.T) {
	t.Helper()
	to.sent++
	name := fmt.Sprint("good", os.Getpid(), "-", to.sent)
	config := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "fuzz"}, LogDirectory: to.Dir,
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: to.Parent + "/good"},
	}
	pod, err := to.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatalf("a good pod: %v", err)
	}
	if _, err := cri.NewImageServiceClient(to.conn).PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}}); err != nil {
		t.Fatalf("a good image: %v", err)
	}
	c, err := to.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod.PodSandboxId, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "good"}, Image: &cri.ImageSpec{Image: images.Busybox}, Command: []string{"sleep", "1000"}, LogPath: name + ".log",
	}})
	if err == nil {
		_, err = to.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.ContainerId})
	}
	if err != nil { // another process of the fuzzing may have removed its pod or image
		t.Logf("a good container: %v", err)
	}
}

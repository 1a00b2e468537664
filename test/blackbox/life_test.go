package blackbox

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

func TestRootPodLife(t *testing.T) {
	d := start(t)
	config := d.PodConfig("life")
	config.Labels = map[string]string{"app": "life", "tier": "one"}
	config.Annotations = map[string]string{"example/note": "kept as it is"}
	begin := time.Now().UnixNano()
	pod := d.RunPod(config)
	if !fullID.MatchString(pod.ID) {
		t.Errorf("pod id %q is not 64 lower-case hex characters", pod.ID)
	}
	s := pod.Status()
	want(t, "state", s.State, cri.PodSandboxState_SANDBOX_READY)
	want(t, "id", s.Id, pod.ID)
	want(t, "name", s.Metadata.Name, "life")
	want(t, "uid", s.Metadata.Uid, config.Metadata.Uid)
	want(t, "namespace", s.Metadata.Namespace, "test")
	want(t, "label", s.Labels["app"], "life")
	want(t, "annotation", s.Annotations["example/note"], "kept as it is")
	want(t, "network mode", s.Linux.Namespaces.Options.Network, cri.NamespaceMode_POD)
	want(t, "PID mode", s.Linux.Namespaces.Options.Pid, cri.NamespaceMode_CONTAINER)
	if s.CreatedAt < begin || s.CreatedAt > time.Now().UnixNano() {
		t.Errorf("created at %d", s.CreatedAt)
	}
	if pod.IP() == "" {
		t.Error("no address")
	}
	pod.Stop()
	pod.Stop()
	want(t, "state after the stop", pod.Status().State, cri.PodSandboxState_SANDBOX_NOTREADY)
	pod.Remove()
	pod.Remove()
	_, err := d.Runtime.PodSandboxStatus(d.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: pod.ID})
	wantError(t, err, codes.NotFound, pod.ID)
}

func TestRootContainerLife(t *testing.T) {
	d := start(t)
	pod := d.RunPod(d.PodConfig("life"))
	config := harness.ContainerConfig("main", `trap "exit 0" TERM; cat; echo "out $GREETING"; echo err >&2; `+harness.Sleep)
	config.Envs = []*cri.KeyValue{{Key: "GREETING", Value: []byte("hello")}}
	config.Labels = map[string]string{"role": "main"}
	config.Annotations = map[string]string{"example/note": "kept"}
	config.WorkingDir = "/tmp/made/for/it"
	c := pod.Create(config)
	if !fullID.MatchString(c.ID) {
		t.Errorf("container id %q is not 64 lower-case hex characters", c.ID)
	}
	s := c.Status()
	want(t, "state", s.State, cri.ContainerState_CONTAINER_CREATED)
	want(t, "start time of a created container", s.StartedAt, 0)
	c.Start()
	s = c.Status()
	want(t, "state", s.State, cri.ContainerState_CONTAINER_RUNNING)
	want(t, "label", s.Labels["role"], "main")
	want(t, "annotation", s.Annotations["example/note"], "kept")
	want(t, "image", s.Image.Image, images.Busybox)
	want(t, "image id", s.ImageId, d.Pull(images.Busybox))
	want(t, "log path", s.LogPath, pod.Config.LogDirectory+"/main.log")
	if s.CreatedAt == 0 || s.StartedAt < s.CreatedAt || s.FinishedAt != 0 {
		t.Errorf("times: created %d, started %d, finished %d", s.CreatedAt, s.StartedAt, s.FinishedAt)
	}
	want(t, "working directory", c.Exec("readlink /proc/1/cwd"), "/tmp/made/for/it")
	d.Eventually("the first lines", func() bool { return len(c.Log()) == 2 })
	want(t, "standard output", c.Output("stdout"), "out hello\n")
	want(t, "standard error", c.Output("stderr"), "err\n")

	_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: c.ID})
	if err == nil {
		t.Error("a running container was started again")
	}
	c.Stop(10)
	s = c.Status()
	want(t, "state after the stop", s.State, cri.ContainerState_CONTAINER_EXITED)
	want(t, "exit code after SIGTERM", s.ExitCode, 0)
	want(t, "reason", s.Reason, "Completed")
	c.Stop(10)
	c.Remove()
	c.Remove()
	_, err = d.Runtime.ContainerStatus(d.Context(), &cri.ContainerStatusRequest{ContainerId: c.ID})
	wantError(t, err, codes.NotFound, c.ID)
}

func TestRootExitCodes(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("codes")))
	for _, c := range []struct {
		name, script string
		code         int32
		reason       string
	}{
		{"zero", "exit 0", 0, "Completed"},
		{"three", "exit 3", 3, "Error"},
		{"killed", "kill -9 $$", 137, "Error"},
		{"terminated", "kill -15 $$; sleep 5", 143, "Error"},
	} {
		// PID 1 of a PID namespace ignores signals from inside: the shell under it is the one that ends.
		script := c.script
		if c.code > 128 {
			script = `sh -c '` + c.script + `'; exit $?`
		}
		s := pod.Run(harness.ContainerConfig(c.name, script)).Wait()
		if s.ExitCode != c.code || s.Reason != c.reason {
			t.Errorf("%s: exit code %d, reason %q; wanted %d, %q", c.name, s.ExitCode, s.Reason, c.code, c.reason)
		}
		if s.FinishedAt < s.StartedAt || s.StartedAt == 0 {
			t.Errorf("%s: started %d, finished %d", c.name, s.StartedAt, s.FinishedAt)
		}
	}
	stubborn := pod.Run(harness.ContainerConfig("stubborn", `trap "" TERM; echo ready; while :; do sleep 1; done`))
	d.Eventually("the trap to be set", func() bool { return len(stubborn.Log()) > 0 })
	begin := time.Now()
	stubborn.Stop(1)
	if took := time.Since(begin); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("stopping with a grace of 1 s took %v", took)
	}
	want(t, "exit code after SIGKILL", stubborn.Status().ExitCode, 137)
}

func TestRootStopOfOneIsShortenedByAnother(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("shorten")))
	c := pod.Run(harness.ContainerConfig("stubborn", `trap "" TERM; echo ready; while :; do sleep 1; done`))
	d.Eventually("the trap to be set", func() bool { return len(c.Log()) > 0 })
	first := make(chan error, 1)
	go func() {
		_, err := d.Runtime.StopContainer(d.Context(), &cri.StopContainerRequest{ContainerId: c.ID, Timeout: 50})
		first <- err
	}()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	c.Stop(0)
	check(t, <-first)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("after the second stop the first took another %v", took)
	}
}

func TestRootStopSignal(t *testing.T) {
	d := start(t, images.Busybox, images.Httpd)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("signal")))
	script := `trap "echo got USR1; exit 0" USR1; trap "echo got WINCH; exit 0" WINCH; trap "echo got TERM; exit 0" TERM; echo ready; while :; do sleep 0.1; done`
	for _, c := range []struct {
		name, image string
		signal      cri.Signal
		says        string
		status      cri.Signal
	}{
		{"default", images.Busybox, cri.Signal_SIGNAL_RUNTIME_DEFAULT, "got TERM", cri.Signal_SIGNAL_SIGTERM},
		{"image", images.Httpd, cri.Signal_SIGNAL_RUNTIME_DEFAULT, "got WINCH", cri.Signal_SIGNAL_SIGWINCH},
		{"own", images.Httpd, cri.Signal_SIGNAL_SIGUSR1, "got USR1", cri.Signal_SIGNAL_SIGUSR1},
	} {
		config := harness.ContainerConfig(c.name, script)
		config.Image.Image, config.StopSignal = c.image, c.signal
		container := pod.Run(config)
		d.Eventually("the traps to be set", func() bool { return len(container.Log()) > 0 })
		want(t, "stop signal in the status", container.Status().StopSignal, c.status)
		container.Stop(20)
		want(t, c.name, container.Output("stdout"), "ready\n"+c.says+"\n")
	}
}

func TestRootLists(t *testing.T) {
	d := start(t)
	one, two := d.PodConfig("one"), d.PodConfig("two")
	one.Labels, two.Labels = map[string]string{"n": "1", "all": "yes"}, map[string]string{"n": "2", "all": "yes"}
	first, second := d.RunPod(harness.OnHostNetwork(one)), d.RunPod(harness.OnHostNetwork(two))
	running := first.Run(harness.ContainerConfig("running", harness.Sleep))
	created := second.Create(harness.ContainerConfig("created", "true"))
	second.Run(harness.ContainerConfig("ended", "true")).Wait()
	second.Stop()

	pods := func(f *cri.PodSandboxFilter) int {
		r, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{Filter: f})
		check(t, err)
		return len(r.Items)
	}
	ready := &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	want(t, "pods", pods(nil), 2)
	want(t, "pods with a label", pods(&cri.PodSandboxFilter{LabelSelector: map[string]string{"n": "1"}}), 1)
	want(t, "pods with another", pods(&cri.PodSandboxFilter{LabelSelector: map[string]string{"all": "yes"}}), 2)
	want(t, "pods with both and a wrong one", pods(&cri.PodSandboxFilter{LabelSelector: map[string]string{"all": "yes", "n": "3"}}), 0)
	want(t, "ready pods", pods(&cri.PodSandboxFilter{State: ready}), 1)
	want(t, "pods by id", pods(&cri.PodSandboxFilter{Id: second.ID}), 1)
	want(t, "pods by short id", pods(&cri.PodSandboxFilter{Id: second.ID[:13]}), 1)
	want(t, "ready pods by the id of one that is not", pods(&cri.PodSandboxFilter{Id: second.ID, State: ready}), 0)

	containers := func(f *cri.ContainerFilter) int {
		r, err := d.Runtime.ListContainers(d.Context(), &cri.ListContainersRequest{Filter: f})
		check(t, err)
		return len(r.Containers)
	}
	state := func(s cri.ContainerState) *cri.ContainerStateValue { return &cri.ContainerStateValue{State: s} }
	want(t, "containers", containers(nil), 3)
	want(t, "running containers", containers(&cri.ContainerFilter{State: state(cri.ContainerState_CONTAINER_RUNNING)}), 1)
	want(t, "containers of a pod", containers(&cri.ContainerFilter{PodSandboxId: second.ID}), 2)
	want(t, "containers by id", containers(&cri.ContainerFilter{Id: running.ID}), 1)
	want(t, "containers by the id of one of another pod", containers(&cri.ContainerFilter{Id: running.ID, PodSandboxId: second.ID}), 0)
	// StopPodSandbox forcibly ends everything in the pod; what never ran is not left to be started.
	_, err := d.Runtime.StartContainer(d.Context(), &cri.StartContainerRequest{ContainerId: created.ID})
	if err == nil {
		t.Error("a container was started in a pod that is stopped")
	}
}

// TestRootPodStatusOrder: kubelet takes the first container of a name in a pod's status for the one that counts.
func TestRootPodStatusOrder(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("order")))
	var ids []string
	for attempt := range uint32(3) {
		config := harness.ContainerConfig("c", "true")
		config.Metadata.Attempt = attempt
		c := pod.Run(config)
		c.Wait()
		ids = append(ids, c.ID)
	}
	r, err := d.Runtime.PodSandboxStatus(d.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: pod.ID})
	check(t, err)
	var got []string
	for _, c := range r.ContainersStatuses {
		got = append(got, c.Id)
	}
	slices.Reverse(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("the containers are %q, wanted the newest first: %q", got, ids)
	}
}

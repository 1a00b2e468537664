package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
)

// rounds of random kills; BERTH_TEST_ROUNDS gives a longer run.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("BERTH_TEST_ROUNDS")); err == nil {
		return n
	}
	return 30
}

// TestRootKilledAtRandom kills daemon or keeper while pods are made, used and removed,
// at a moment that nobody chose. After each restart the same calls must work, and at
// the end the harness looks for what was left.
func TestRootKilledAtRandom(t *testing.T) {
	d := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds() {
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for worker := range 3 {
			wait.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					life(ctx, d, "w"+strconv.Itoa(worker), uint32(round*1000+i))
				}
			})
		}
		time.Sleep(time.Duration(random.IntN(60_000)) * time.Microsecond)
		keeper := d.Keeper()
		victim := random.IntN(3) // daemon, keeper, both
		if victim > 0 && keeper != 0 {
			check(t, unix.Kill(keeper, unix.SIGKILL))
		}
		if victim != 1 {
			d.Kill()
		} else {
			time.Sleep(time.Duration(random.IntN(20_000)) * time.Microsecond)
		}
		cancel()
		wait.Wait()
		if d.Ended() {
			d.Restart()
		}
		sane(t, d, round)
	}
}

// life is a pod's, each step of which may fail: the daemon may be gone.
func life(ctx context.Context, d *harness.Daemon, name string, attempt uint32) {
	config := d.PodConfig(name)
	config.Metadata.Attempt = attempt
	r, err := d.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return
	}
	container := harness.ContainerConfig("c", harness.Sleep)
	c, err := d.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: r.PodSandboxId, Config: container, SandboxConfig: config})
	if err == nil {
		_, err = d.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.ContainerId})
	}
	if err == nil {
		_, err = d.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.ContainerId, Cmd: []string{"true"}, Timeout: 5})
	}
	if err == nil {
		_, err = d.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: r.PodSandboxId})
	}
	if err == nil {
		_, _ = d.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: r.PodSandboxId})
	}
}

// sane has a whole pod's life work, and what earlier rounds left be removed.
func sane(t *testing.T, d *harness.Daemon, round int) {
	t.Helper()
	list, err := d.Runtime.ListPodSandbox(d.Context(), &cri.ListPodSandboxRequest{})
	check(t, err)
	for _, p := range list.Items {
		if _, err := d.Runtime.StopPodSandbox(d.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			t.Errorf("round %d: stop pod: %v", round, err)
		}
		if _, err := d.Runtime.RemovePodSandbox(d.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			t.Errorf("round %d: remove pod: %v", round, err)
		}
	}
	pod := d.RunPod(d.PodConfig("sane-" + strconv.Itoa(round)))
	c := pod.Run(harness.ContainerConfig("c", "exit 9"))
	want(t, "exit code", c.Wait().ExitCode, 9)
	pod.Remove()
}

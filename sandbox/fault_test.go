package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// errFault is what operations have that a test lets fail.
var errFault = errors.New("the test's fault")

// failBetween lets the operations fail from the n-th on, that of now being the first, up to the m-th.
func (d *daemon) failBetween(n, m int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failFrom, d.failTo = len(d.ops)+n, len(d.ops)+m
}

// heal ends that, and says whether an operation failed.
func (d *daemon) heal() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	failed := d.failFrom > 0 && len(d.ops) >= d.failFrom
	d.failFrom, d.failTo = 0, 0
	return failed
}

// swept waits until a daemon's start is over.
func (d *daemon) swept() {
	d.t.Helper()
	d.eventually("start is over", func() error {
		select {
		case <-d.m.swept:
			return nil
		default:
			return errors.New("it sweeps")
		}
	})
}

// clear removes all pods, as kubelet does: it asks again when that fails.
func (d *daemon) clear() {
	d.t.Helper()
	for _, p := range d.m.Pods(PodFilter{}) {
		var err error
		for range 3 {
			if err = d.m.RemovePod(d.t.Context(), p.ID); err == nil {
				break
			}
		}
		if err != nil {
			d.t.Errorf("remove pod: %v", err)
		}
	}
	if pods, containers := d.m.Pods(PodFilter{}), d.m.Containers(ContainerFilter{}); len(pods) > 0 || len(containers) > 0 {
		d.t.Errorf("left: %v, %v", pods, containers)
	}
}

// faultCases are lives that take different ways.
func faultCases(dir string) map[string]func() (*spec.Pod, *spec.Container) {
	return map[string]func() (*spec.Pod, *spec.Container){
		"shared PIDs": func() (*spec.Pod, *spec.Container) {
			p, c := podConfig("web"), containerConfig("c")
			p.Security.Namespaces.PID, c.Security.Namespaces.PID = spec.NamespacePod, spec.NamespacePod
			return p, c
		},
		"volumes": func() (*spec.Pod, *spec.Container) {
			p, c := podConfig("web"), containerConfig("c")
			p.LogDirectory, c.LogPath, c.Stdin = filepath.Join(dir, "logs"), "c.log", true
			c.Mounts = []spec.Mount{
				{ContainerPath: "/image", Image: &spec.ImageRef{Image: fakeImage.ID}, Readonly: true},
				{ContainerPath: "/made", HostPath: filepath.Join(dir, "made")},
			}
			return p, c
		},
		"host network, terminal": func() (*spec.Pod, *spec.Container) {
			p, c := podConfig("web"), containerConfig("c")
			p.Security.Namespaces.Network, p.Hostname, c.Security.Namespaces.Network = spec.NamespaceNode, "", spec.NamespaceNode
			p.PortMappings = []spec.PortMapping{{Protocol: spec.TCP, ContainerPort: 80, HostPort: 80}}
			c.TTY = true
			return p, c
		},
		"users": func() (*spec.Pod, *spec.Container) {
			p, c := podConfig("web"), containerConfig("c")
			ids := []spec.IDMapping{{HostID: 1 << 16, Length: 1 << 16}}
			p.Security.Namespaces.User = &spec.UserNamespace{UIDs: ids, GIDs: ids}
			c.Security.Namespaces.User = p.Security.Namespaces.User
			return p, c
		},
	}
}

// everyOperation runs f for each operation of a whole life, of each kind, until one comes to its end without a fault.
func everyOperation(t *testing.T, f func(t *testing.T, d *daemon, pod *spec.Pod, container *spec.Container, k int) (faulty bool)) {
	for name, config := range faultCases(t.TempDir()) {
		t.Run(name, func(t *testing.T) {
			step := 1
			if testing.Short() {
				step = 4
			}
			for k, faulty := 1, true; faulty && !t.Failed(); k += step {
				if k > 200 {
					t.Fatal("no end in sight")
				}
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					d := newWorld(t).start()
					d.swept()
					pod, container := config()
					faulty = f(t, d, pod, container, k)
				})
			}
		})
	}
}

// TestFailAtEveryOperation lets one operation fail, once, wherever in a pod's life it stands: nothing stays of it that
// the client's usual removal doesn't take away, and the same works afterwards.
func TestFailAtEveryOperation(t *testing.T) {
	everyOperation(t, func(t *testing.T, d *daemon, pod *spec.Pod, container *spec.Container, k int) bool {
		d.failBetween(k, k)
		err := d.life(pod, container)
		faulty := d.heal()
		if err != nil && !faulty {
			t.Errorf("whole life: %v", err)
		}
		// A set-up that fails takes all of itself back.
		switch {
		case err == nil:
		case strings.HasPrefix(err.Error(), "run pod ") && len(d.m.Pods(PodFilter{})) > 0,
			strings.HasPrefix(err.Error(), "create container ") && len(d.m.Containers(ContainerFilter{})) > 0:
			t.Errorf("%v, and it is there", err)
		case strings.HasPrefix(err.Error(), "run pod "), strings.HasPrefix(err.Error(), "create container "), strings.HasPrefix(err.Error(), "start container "):
			d.settled()
		}
		d.clear()
		d.settled()
		if err := d.life(pod, container); err != nil {
			t.Errorf("the same again: %v", err)
		}
		d.settled()
		return faulty
	})
}

// TestFailFromEveryOperationOn has everything fail from one operation on, the undoing too: what is left then is taken
// away by the client's removal and the next start.
func TestFailFromEveryOperationOn(t *testing.T) {
	everyOperation(t, func(t *testing.T, d *daemon, pod *spec.Pod, container *spec.Container, k int) bool {
		d.failBetween(k, 1<<30)
		err := d.life(pod, container)
		faulty := d.heal()
		if faulty && err == nil && len(d.m.Pods(PodFilter{})) > 0 {
			t.Error("a life in which nothing worked any more is said to have been a whole one")
		}
		d.clear()
		d.kill()
		next := d.start()
		next.swept()
		next.clear()
		next.settled()
		if err := next.life(pod, container); err != nil {
			t.Errorf("the same again: %v", err)
		}
		next.settled()
		return faulty
	})
}

// TestClientsAtOnce has many clients do what comes to their minds with a few pods, while one operation in fifty fails.
// What they see fits together at every moment, and nothing is left at the end.
func TestClientsAtOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("BERTH_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("seed %d", seed)
	d := newWorld(t).start()
	d.swept()
	d.mu.Lock()
	chance := rand.New(rand.NewPCG(seed, 0))
	d.chance = func() bool { return chance.IntN(50) == 0 }
	d.mu.Unlock()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { d.client(rand.New(rand.NewPCG(seed, uint64(i+1))), 60) })
	}
	wg.Wait()
	d.mu.Lock()
	d.chance = nil
	d.mu.Unlock()
	d.clear()
	d.kill() // creations whose undoing failed are left to the next start
	next := d.start()
	next.swept()
	next.clear()
	next.settled()
}

// client does so many things; most of them may fail.
func (d *daemon) client(chance *rand.Rand, n int) {
	ctx := d.t.Context()
	for range n {
		pods, containers := d.m.Pods(PodFilter{}), d.m.Containers(ContainerFilter{})
		var pod, container string
		if len(pods) > 0 {
			pod = pods[chance.IntN(len(pods))].ID
		}
		if len(containers) > 0 {
			container = containers[chance.IntN(len(containers))].ID
		}
		switch chance.IntN(12) {
		case 0, 1:
			config := podConfig(fmt.Sprint("pod", chance.IntN(3)))
			_, _ = d.m.RunPod(ctx, config)
		case 2, 3:
			config := containerConfig(fmt.Sprint("c", chance.IntN(3)))
			config.Metadata.Attempt = uint32(chance.IntN(4))
			_, _ = d.m.CreateContainer(ctx, pod, config)
		case 4, 5:
			_ = d.m.StartContainer(ctx, container)
		case 6:
			_, _ = d.m.ExecSync(ctx, container, []string{"true"}, time.Second)
		case 7:
			_ = d.m.UpdateContainer(ctx, container, &spec.Resources{MemoryLimit: int64(1+chance.IntN(9)) << 20})
		case 8:
			_ = d.m.StopContainer(ctx, container, time.Duration(chance.IntN(2))*time.Second)
		case 9:
			_ = d.m.RemoveContainer(ctx, container)
		case 10:
			_ = d.m.StopPod(ctx, pod)
		case 11:
			_ = d.m.RemovePod(ctx, pod)
		}
		d.consistent()
	}
}

// consistent looks at what a client sees of each pod at one moment.
func (d *daemon) consistent() {
	for _, p := range d.m.Pods(PodFilter{}) {
		info, containers, err := d.m.Pod(p.ID)
		if err != nil {
			continue // it has gone
		}
		names := map[spec.ContainerMetadata]bool{}
		for _, c := range containers {
			if c.PodID != p.ID || names[c.Config.Metadata] {
				d.t.Errorf("pod %s shows container %+v of %s, or twice", p.ID, c.Config.Metadata, c.PodID)
			}
			names[c.Config.Metadata] = true
			if info.State == PodReady && c.State == ContainerUnknown {
				d.t.Errorf("container %s of a ready pod is in no state", c.ID)
			}
		}
	}
}

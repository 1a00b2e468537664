package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// index finds pods and containers. Its lock is held for map accesses only, never
// while anything waits.
type index struct {
	mu         sync.RWMutex
	pods       map[string]*pod
	containers map[string]*container
	// The same, the oldest first: to sort a thousand for each list takes most of its time.
	podsByAge       []*pod
	containersByAge []*container
}

func newIndex() *index {
	return &index{pods: map[string]*pod{}, containers: map[string]*container{}}
}

func (x *index) addPod(p *pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pods[p.id] = p
	x.podsByAge = insertByAge(x.podsByAge, p)
}

func (x *index) removePod(p *pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pods, p.id)
	x.podsByAge = slices.DeleteFunc(x.podsByAge, func(other *pod) bool { return other == p })
}

func (x *index) addContainer(c *container) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.containers[c.id] = c
	x.containersByAge = insertByAge(x.containersByAge, c)
}

func (x *index) removeContainer(c *container) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.containers, c.id)
	x.containersByAge = slices.DeleteFunc(x.containersByAge, func(other *container) bool { return other == c })
}

// pod finds a pod by its id, or by the beginning of one.
func (x *index) pod(id string) (*pod, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.pods, "pod", id)
}

// container finds a container by its id, or by the beginning of one.
func (x *index) container(id string) (*container, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.containers, "container", id)
}

// exactly finds a container by its full id, nil when there is none.
func (x *index) exactly(id string) *container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.containers[id]
}

func find[T interface{ visible() bool }](all map[string]T, kind, id string) (T, error) {
	var found, none T
	if v, ok := all[id]; ok && v.visible() {
		return v, nil
	}
	n := 0
	for full, v := range all {
		if id != "" && strings.HasPrefix(full, id) && v.visible() {
			found = v
			n++
		}
	}
	switch n {
	case 0:
		return none, notFound(kind, id)
	case 1:
		return found, nil
	default:
		return none, fmt.Errorf("%s %q is the beginning of %d ids: %w", kind, id, n, ErrAmbiguous)
	}
}

// ready finds the pod with that identity that is ready, nil when there is none.
func (x *index) ready(identity spec.PodMetadata) *pod {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, p := range x.pods {
		if i := p.info.Load(); i != nil && i.State == PodReady && i.Config.Metadata == identity {
			return p
		}
	}
	return nil
}

// allPods are all pods, the oldest first.
func (x *index) allPods() []*pod {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.podsByAge)
}

// allContainers are all containers, the oldest first.
func (x *index) allContainers() []*container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.containersByAge)
}

// insertByAge puts in where it belongs: at the end, but for what a start of the daemon finds.
func insertByAge[T interface{ since() time.Time }](all []T, in T) []T {
	i, _ := slices.BinarySearchFunc(all, in, func(a, b T) int {
		if a.since().After(b.since()) {
			return 1
		}
		return -1 // of the same age, too: what came first stays first
	})
	return slices.Insert(all, i, in)
}

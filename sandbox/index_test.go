package sandbox

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Lists have the oldest first, in whichever order a start of the daemon finds the records, and of the same age whoever was
// found first; what is removed is in none.
func TestIndexKeepsAgesInOrder(t *testing.T) {
	x := newIndex()
	add := func(id string, second int64) (*pod, *container) {
		podRec, rec := samplePod(), sampleContainer()
		podRec.ID, podRec.CreatedAt = id, time.Unix(second, 0)
		rec.ID, rec.CreatedAt = id, time.Unix(second, 0)
		p := newPod(t.Context(), *podRec)
		c := newContainer(p, *rec)
		x.addPod(p)
		x.addContainer(c)
		return p, c
	}
	var pods []*pod
	var containers []*container
	for i, second := range []int64{5, 3, 9, 1, 5, 0, 7} {
		p, c := add(fmt.Sprintf("%c%d", 'a'+rune(i), second), second)
		pods, containers = append(pods, p), append(containers, c)
	}
	want := []string{"f0", "d1", "b3", "a5", "e5", "g7", "c9"}
	check := func() {
		t.Helper()
		var gotPods, gotContainers []string
		for _, p := range x.allPods() {
			gotPods = append(gotPods, p.id)
		}
		for _, c := range x.allContainers() {
			gotContainers = append(gotContainers, c.id)
		}
		if !slices.Equal(gotPods, want) || !slices.Equal(gotContainers, want) {
			t.Errorf("pods %v, containers %v, want %v", gotPods, gotContainers, want)
		}
	}
	check()
	before := x.allPods()
	for _, i := range []int{0, 5, 2} {
		x.removePod(pods[i])
		x.removePod(pods[i])
		x.removeContainer(containers[i])
	}
	want = []string{"d1", "b3", "e5", "g7"}
	check()
	if len(before) != 7 || before[0] == nil || before[6].id != "c9" {
		t.Error("a list that was given changed with a removal")
	}
}

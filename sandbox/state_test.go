package sandbox

import (
	"errors"
	"fmt"
	"testing"
)

// The tables once more, as a list, so that a change must be made twice.
func TestPodMoves(t *testing.T) {
	allowed := map[string]PodState{
		"being created commit": PodReady, "being created abort": podGone, "being created give up on": podStopping,
		"ready stop":         podStopping,
		"being stopped stop": podStopping, "being stopped end the stop of": PodNotReady,
		"not ready stop": PodNotReady, "not ready remove": podRemoving,
		"being removed remove": podRemoving, "being removed end the removal of": podGone,
	}
	checkMoves(t, podGone, podEvents, allowed)
}

func TestContainerMoves(t *testing.T) {
	allowed := map[string]ContainerState{
		"being created commit": ContainerCreated, "being created abort": containerGone,
		"created start": containerStarting, "created remove": containerRemoving,
		"starting end the start of": ContainerRunning, "starting fail": ContainerExited,
		"running end":          ContainerExited,
		"exited remove":        containerRemoving,
		"being removed remove": containerRemoving, "being removed end the removal of": containerGone,
	}
	checkMoves(t, containerGone, containerEvents, allowed)
}

// checkMoves holds every state up to the last, with every event, against the moves that are allowed.
func checkMoves[E interface {
	~uint8
	fmt.Stringer
}, S interface {
	~uint8
	fmt.Stringer
	next(E) (S, bool)
}](t *testing.T, last S, events E, allowed map[string]S) {
	t.Helper()
	seen := 0
	for s := S(0); s <= last; s++ {
		for e := E(0); e < events; e++ {
			key := s.String() + " " + e.String()
			to, ok := s.next(e)
			want, allowed := allowed[key]
			if ok != allowed || to != want {
				t.Errorf("%s: got %s %t, wanted %s %t", key, to, ok, want, allowed)
			}
			if ok {
				seen++
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("%d moves, wanted %d", seen, len(allowed))
	}
}

func TestEveryStateHasANameThatIsReadBack(t *testing.T) {
	for s := PodReady; s <= podGone; s++ {
		text, _ := s.MarshalText()
		var back PodState
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%d: %q reads back as %d, %v", uint8(s), text, uint8(back), err)
		}
	}
	for s := ContainerUnknown; s <= containerGone; s++ {
		text, _ := s.MarshalText()
		var back ContainerState
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%d: %q reads back as %d, %v", uint8(s), text, uint8(back), err)
		}
	}
	var p PodState
	if err := p.UnmarshalText([]byte("number 77")); !errors.Is(err, errRecord) {
		t.Errorf("unknown state: %v", err)
	}
	if got := fmt.Sprint(PodState(77), podEvent(77)); got != "number 77 number 77" {
		t.Errorf("got %q", got)
	}
}

func TestShownStates(t *testing.T) {
	pods := map[PodState]PodState{PodReady: PodReady, podStopping: PodNotReady, PodNotReady: PodNotReady, podRemoving: PodNotReady}
	for s, want := range pods {
		if got := s.shown(); got != want {
			t.Errorf("%s shows as %s, wanted %s", s, got, want)
		}
	}
	containers := map[ContainerState]ContainerState{
		ContainerCreated: ContainerCreated, containerStarting: ContainerCreated, ContainerRunning: ContainerRunning,
		ContainerExited: ContainerExited, containerRemoving: ContainerExited,
	}
	for s, want := range containers {
		if got := s.shown(); got != want {
			t.Errorf("%s shows as %s, wanted %s", s, got, want)
		}
	}
}

package sandbox

import "fmt"

// PodState is where a pod is in its life.
//
//	            commit              stop               stopped             remove
//	podCreating ──────▶ PodReady ──────▶ podStopping ──────▶ PodNotReady ──────▶ podRemoving ──▶ (gone)
//	     │ abort                           ▲     │ ▲ stop        │ ▲ stop            │ ▲ remove
//	     ├──▶ (gone)                       │     └─┘             └─┘                 └─┘
//	     └────────── undo failed ──────────┘
//
// podCreating shows nowhere; podStopping and podRemoving show as PodNotReady.
// A stop that fails leaves podStopping, from where the next one goes on.
type PodState uint8

// The states of a pod. Clients see PodReady and PodNotReady only.
const (
	PodReady PodState = iota + 1
	PodNotReady
	podCreating
	podStopping
	podRemoving
	podGone
)

// podEvent moves a pod from state to state.
type podEvent uint8

const (
	podCommit  podEvent = iota // set-up is done
	podAbort                   // set-up failed and is undone
	podBroken                  // set-up failed, and so did undoing it
	podStop                    // teardown begins
	podStopped                 // teardown is done
	podRemove                  // removal begins
	podRemoved                 // removal is done
	podEvents                  // their number
)

// podMoves is the table: what isn't in it is refused.
var podMoves = map[PodState]map[podEvent]PodState{
	podCreating: {podCommit: PodReady, podAbort: podGone, podBroken: podStopping},
	PodReady:    {podStop: podStopping},
	podStopping: {podStop: podStopping, podStopped: PodNotReady},
	PodNotReady: {podStop: PodNotReady, podRemove: podRemoving},
	podRemoving: {podRemove: podRemoving, podRemoved: podGone},
}

// next is the state after an event.
func (s PodState) next(e podEvent) (PodState, bool) {
	to, ok := podMoves[s][e]
	return to, ok
}

// shown is the state that clients see.
func (s PodState) shown() PodState {
	if s == PodReady {
		return PodReady
	}
	return PodNotReady
}

// ContainerState is where a container is in its life.
//
//	                  commit                     start                      started                     exit
//	containerCreating ──────▶ ContainerCreated ──────▶ containerStarting ──────▶ ContainerRunning ──────▶ ContainerExited
//	      │ abort                    │                        │ failed                                        ▲     │
//	      ▼                          │                        └───────────────────────────────────────────────┘     │ remove
//	    (gone)                       │ remove                                                                       ▼
//	                                 └────────────────────────────────────────────────────────────────▶ containerRemoving ──▶ (gone)
//
// containerCreating shows nowhere, containerStarting as ContainerCreated,
// containerRemoving as ContainerExited. A process that ends before its start was
// booked is noted, and exits right after.
type ContainerState uint8

// The states of a container. ContainerUnknown is the zero value, which no
// container that clients see is in.
const (
	ContainerUnknown ContainerState = iota
	ContainerCreated
	ContainerRunning
	ContainerExited
	containerCreating
	containerStarting
	containerRemoving
	containerGone
)

// containerEvent moves a container from state to state.
type containerEvent uint8

const (
	containerCommit      containerEvent = iota // creation is done
	containerAbort                             // creation failed and is undone
	containerStart                             // a start begins
	containerStarted                           // its process runs
	containerStartFailed                       // it could not be made to
	containerExit                              // its process has ended
	containerRemove                            // removal begins
	containerRemoved                           // removal is done
	containerEvents                            // their number
)

// containerMoves is the table: what isn't in it is refused.
var containerMoves = map[ContainerState]map[containerEvent]ContainerState{
	containerCreating: {containerCommit: ContainerCreated, containerAbort: containerGone},
	ContainerCreated:  {containerStart: containerStarting, containerRemove: containerRemoving},
	containerStarting: {containerStarted: ContainerRunning, containerStartFailed: ContainerExited},
	ContainerRunning:  {containerExit: ContainerExited},
	ContainerExited:   {containerRemove: containerRemoving},
	containerRemoving: {containerRemove: containerRemoving, containerRemoved: containerGone},
}

// next is the state after an event.
func (s ContainerState) next(e containerEvent) (ContainerState, bool) {
	to, ok := containerMoves[s][e]
	return to, ok
}

// shown is the state that clients see.
func (s ContainerState) shown() ContainerState {
	switch s {
	case containerStarting:
		return ContainerCreated
	case containerRemoving:
		return ContainerExited
	default:
		return s
	}
}

var podStateNames = map[PodState]string{
	PodReady: "ready", PodNotReady: "not ready", podCreating: "being created", podStopping: "being stopped",
	podRemoving: "being removed", podGone: "gone",
}

// String is the state as a person reads it.
func (s PodState) String() string { return name(podStateNames, s) }

var containerStateNames = map[ContainerState]string{
	ContainerUnknown: "unknown", ContainerCreated: "created", ContainerRunning: "running", ContainerExited: "exited",
	containerCreating: "being created", containerStarting: "starting", containerRemoving: "being removed", containerGone: "gone",
}

// String is the state as a person reads it.
func (s ContainerState) String() string { return name(containerStateNames, s) }

var podEventNames = map[podEvent]string{
	podCommit: "commit", podAbort: "abort", podBroken: "give up on", podStop: "stop", podStopped: "end the stop of",
	podRemove: "remove", podRemoved: "end the removal of",
}

// String is the event as a verb: "stop".
func (e podEvent) String() string { return name(podEventNames, e) }

var containerEventNames = map[containerEvent]string{
	containerCommit: "commit", containerAbort: "abort", containerStart: "start", containerStarted: "end the start of",
	containerStartFailed: "fail", containerExit: "end", containerRemove: "remove", containerRemoved: "end the removal of",
}

// String is the event as a verb: "start".
func (e containerEvent) String() string { return name(containerEventNames, e) }

func name[K ~uint8](names map[K]string, key K) string {
	if n, ok := names[key]; ok {
		return n
	}
	return fmt.Sprintf("number %d", key)
}

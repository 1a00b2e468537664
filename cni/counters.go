package cni

import "github.com/berth-runtime/berth/cni/plugin/link"

// InterfaceCounters are what passed one interface of a pod: bytes, packets, errors and drops of each direction.
type InterfaceCounters = link.Counters

// DefaultInterface is the name of the interface that has the pod's addresses.
const DefaultInterface = defaultInterface

// Counters returns those of a pod's interfaces, without the loopback one. netns is the open descriptor of its network namespace, which
// stays the caller's; it holds no process up, and needs none to be in the namespace. It may be called at any time and by many.
func Counters(netns int) ([]InterfaceCounters, error) { return link.ReadCounters(netns) }

// Package nri lets plugins of the Node Resource Interface (github.com/containerd/nri) look on at the life of pods and
// containers, refuse what they don't want, and change containers that are made.
//
// Plugins is the sandbox's: it is told of each step, in the order in which they happen to a pod, before others see what
// came of it. A plugin that connects gets all pods and containers as they are between two such steps, and then every
// step: Enter is what keeps a step and a new plugin apart. With no plugin connected, that is all a step costs.
//
// What a plugin wants of a container is kept with the container's record, as the interface's own message, and applied to
// each Spec that is built of it. Plugins may not choose a container's cgroup, and not move it to other namespaces: both
// are berth's to know. Nor is a container evicted: the interface has messages for that wish, but its module's stub can't send
// them, and its adaptation doesn't pass them on (v0.12).
//
//	config.go   whether, and where the socket is
//	plugins.go  the adaptation of the nri module, and who joins when
//	tell.go     steps told, one after the other
//	adjust.go   what plugins change of a Spec, and of limits
//	encode.go   pods and containers as plugins see them
package nri

package cri

import (
	"path"

	"github.com/sirupsen/logrus"
)

// changing are the methods that change the node. Probes (ExecSync) and what only
// asks are none: kubelet repeats them for ever.
var changing = map[string]bool{
	"RunPodSandbox": true, "StopPodSandbox": true, "RemovePodSandbox": true, "UpdatePodSandboxResources": true,
	"CreateContainer": true, "StartContainer": true, "StopContainer": true, "RemoveContainer": true,
	"UpdateContainerResources": true, "ReopenContainerLog": true, "UpdateRuntimeConfig": true,
	"PullImage": true, "RemoveImage": true,
}

// level is at which level the log has a request that ended so.
//
// Errors go to the client, and what is returned is not logged: below the door that
// holds without exception. The door makes one, as an operator who looks for why a pod
// does not start has the node's log and often not kubelet's: a change that failed is
// a warning. What the client alone can mend, or wanted so, is not: a request that is
// wrong, an object that is gone, a call that was given up.
func level(method string, err error) logrus.Level {
	if err == nil || clients(err) || !changing[path.Base(method)] {
		return logrus.DebugLevel
	}
	return logrus.WarnLevel
}

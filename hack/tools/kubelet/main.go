// Command kubelet is Kubernetes' kubelet, unchanged but for one thing: it does not
// start with systemCgroups set, by flag or by file. With it kubelet moves every process
// of the machine's root cgroup into a group of its own, which breaks the machine of
// whoever runs the tests.
//
// It is a module of its own, so that no dependency of Kubernetes reaches berth's.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // as Kubernetes' own main
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as Kubernetes' own main
	_ "k8s.io/component-base/metrics/prometheus/version"  // as Kubernetes' own main
	"k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if err := refuse(os.Args[1:], os.ReadFile); err != nil {
		fmt.Fprintln(os.Stderr, "kubelet:", err)
		os.Exit(2)
	}
	os.Exit(cli.Run(app.NewKubeletCommand(context.Background())))
}

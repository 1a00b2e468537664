package cni

import (
	"fmt"
	"testing"
)

// TestRootFirstPodOfABridge: a bridge that an Add has made passes packets when it returns. Before the kernel's link watch has seen its first port
// it drops them, and who asks tries again after a second.
func TestRootFirstPodOfABridge(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 30 {
		w.write(t, "10-net.conflist", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","bridge":"br-first%[1]d","isGateway":true,
			"ipam":{"type":"host-local","subnet":"10.9.%[1]d.0/24","dataDir":%[2]q}}]}`, i, w.dir+"/leases"))
		p := w.pod(t, fmt.Sprint("p", i))
		serve(t, p.space, ":80")
		mustAsk(t, w.host, join(p.IPs[0], 80))
		w.del(t, p.Attachment)
	}
}

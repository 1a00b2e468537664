package cni

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/version"
)

// TestRootEveryVersion attaches a pod by configurations of each version of the CNI specification, and of none, which is the first.
func TestRootEveryVersion(t *testing.T) {
	w := newWorld(t, nil)
	bridge := `"type":"bridge","bridge":"br-ver","isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.9.0.0/24","dataDir":"` + w.dir + `/leases"}`
	for _, v := range append([]string{""}, version.All.SupportedVersions()...) {
		says := `"cniVersion":"` + v + `",`
		if v == "" {
			says = ""
		}
		w.write(t, "20-net.conf", `{`+says+`"name":"net",`+bridge+`}`)
		w.write(t, "10-net.conflist", `{`+says+`"name":"net","plugins":[{`+bridge+`},{"type":"portmap","capabilities":{"portMappings":true}}]}`)
		if v == "" || v == "0.1.0" || v == "0.2.0" { // lists are from 0.3.0 on
			_ = os.Remove(filepath.Join(w.conf, "10-net.conflist"))
		}
		p := w.pod(t, "p"+v, PortMapping{HostPort: 8080, ContainerPort: 80})
		if got := p.CNI.Version(); v != "" && got != v {
			t.Errorf("%s: the result is of version %s", v, got)
		}
		serve(t, p.space, ":80")
		mustAsk(t, w.host, join(p.IPs[0], 80))
		if err := w.Check(context.Background(), p.Attachment); err != nil {
			t.Errorf("%s: %v", v, err)
		}
		w.restart(t)
		w.del(t, p.Attachment)
	}
	if l, _ := w.host.Link("br-ver"); l != nil {
		_ = w.host.DeleteAt(l.Attrs().Index)
	}
	w.nothingLeft(t)
}

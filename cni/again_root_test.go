package cni

import "testing"

// TestRootAddressGivenAgain: an IPAM plugin that is executed gives the address of a pod that is gone to the next, and who knew the one reaches the
// other at once. The MAC address is another: it was there before the address was.
func TestRootAddressGivenAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.foreign(t, "far-ipam", `case $CNI_ARGS in *K8S_POD_NAME=peer*) n=9 ;; *) n=7 ;; esac
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.'$n'/24"},{"address":"fd00:9::'$n'/64"}]}'`)
	w.write(t, "10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","bridge":"br-again","isGateway":true,"ipam":{"type":"far-ipam"}}]}`)
	peer := w.pod(t, "peer")
	for _, name := range []string{"one", "two", "three"} {
		p := w.pod(t, name)
		serve(t, p.space, ":80")
		for _, ip := range p.IPs {
			if _, err := ask(peer.space, join(ip, 80)); err != nil {
				t.Errorf("%s: a pod that knew another with its address: %v", name, err)
			}
			if _, err := ask(w.host, join(ip, 80)); err != nil {
				t.Errorf("%s: the host, which knew another with its address: %v", name, err)
			}
		}
		w.del(t, p.Attachment)
		p.remove()
	}
	w.del(t, peer.Attachment)
}

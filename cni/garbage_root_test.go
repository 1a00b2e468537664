package cni

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootGarbageInTheDirectory has a daemon start on what a power loss, or somebody's hand, made of the files of the one before: pods are attached,
// no address of a pod that is kept is given out again, and what nobody can read goes with the first collection.
func TestRootGarbageInTheDirectory(t *testing.T) {
	w := newWorld(t, nil)
	kept, torn := w.pod(t, "kept"), w.pod(t, "torn")
	leases := filepath.Join(leasesDir, builtinName)
	result := "results/" + builtinName + "-" + torn.ID + "-eth0"
	if _, err := os.Stat(filepath.Join(w.dir, result)); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{
		intentsDir + "/" + torn.ID + ".json":   `{"id":"` + torn.ID + `","ifNa`,
		intentsDir + "/half.json.new":          `{"id":"half"`,
		intentsDir + "/" + "empty" + ".json":   "",
		intentsDir + "/" + "other" + ".json":   `{"id":"not-other","ifName":"eth0"}`,
		result:                                 `{"kind":"cniCacheV1","containerId":"` + torn.ID,
		"results/" + builtinName + "-no-eth0":  "",
		"results/" + builtinName + "-no2-eth0": "\x00\x00\x00\x00",
		leases + "/10.88.0.77":                 "",
		leases + "/fd00:88::77":                podID("nobody"),
		leases + "/last_reserved_ip.0":         "10.88.",
		leases + "/last_reserved_ip.1":         "",
		leases + "/not-an-address":             "x",
		"pod-cidrs":                            "10.244.0.0/",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.restart(t)
	if err := w.Status(); err != nil {
		t.Errorf("the network is not ready: %v", err)
	}
	next := w.pod(t, "next")
	for _, p := range []*pod{kept, torn} {
		if next.IPs[0] == p.IPs[0] || next.IPs[1] == p.IPs[1] {
			t.Errorf("%v was given out again", next.IPs)
		}
	}
	if err := w.GC(context.Background(), []string{kept.ID}); err != nil {
		t.Error(err)
	}
	var left []string
	for _, dir := range []string{intentsDir, "results", leases} {
		entries, err := os.ReadDir(filepath.Join(w.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			switch base := e.Name(); {
			case strings.Contains(name, kept.ID), strings.Contains(name, next.ID), base == "lock", strings.HasPrefix(base, "last_reserved_ip."):
			case base == "not-an-address": // somebody else's: no plugin made it
			default:
				if owner, _ := os.ReadFile(filepath.Join(w.dir, name)); !strings.Contains(string(owner), kept.ID) && !strings.Contains(string(owner), next.ID) {
					left = append(left, name)
				}
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	serve(t, kept.space, ":80")
	mustAsk(t, w.host, join(kept.IPs[0], 80))
	for _, p := range []*pod{kept, torn, next} {
		w.del(t, p.Attachment)
	}
}

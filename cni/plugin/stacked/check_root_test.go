package stacked

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin/link"
	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
	"github.com/berth-runtime/berth/cni/plugin/podif"
)

// TestRootCheckMissesWhatIsGone changes what a macvlan stands on, and then the macvlan.
func TestRootCheckMissesWhatIsGone(t *testing.T) {
	b := newBed(t, Macvlan)
	for _, name := range []string{"one", "two"} {
		linktest.Joined(t, b.host, name)
	}
	const ipam, result = `,"ipam":{"type":"x"}`, `,"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}`
	c := b.call(`,"master":"one"` + ipam)
	if _, err := b.Add(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check := func(keys, want string, is error) {
		t.Helper()
		err := b.Check(t.Context(), with(c, keys+ipam))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) || is != nil && !errors.Is(err, is) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check(`,"master":"one"`+result, "", nil)
	check(`,"master":"one"`, "prevResult", nil)
	check(`,"master":"two"`+result, "does not stand on two", podif.ErrChanged)
	check(`,"master":"three"`+result, "master: three", ErrNoMaster)
	b.refusal = errors.New("no such lease")
	check(`,"master":"one"`+result, "no such lease", b.refusal)
	b.refusal = nil
	index, err := c.Pod.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Pod.DeleteAt(index); err != nil {
		t.Fatal(err)
	}
	check(`,"master":"one"`+result, "it is no macvlan as configured", podif.ErrChanged)
	// Somebody else's interface of the name stays.
	if err := linktest.AddVeth(b.host, link.Veth{Name: "v0", MAC: link.RandomMAC(), Pod: c.Pod, PodName: "eth0", PodMAC: link.RandomMAC()}); err != nil {
		t.Fatal(err)
	}
	if err := b.Del(t.Context(), c); err != nil {
		t.Error(err)
	}
	if l, err := c.Pod.Link("eth0"); err != nil || l == nil {
		t.Errorf("it took another's: %v, %v", l, err)
	}
}

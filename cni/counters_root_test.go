package cni

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/berth-runtime/berth/cni/plugin/link/linktest"
)

// TestRootCounters holds the counters against what a pod was sent.
func TestRootCounters(t *testing.T) {
	w := newWorld(t, nil)
	p := w.pod(t, "one")
	before := counters(t, p)
	const count, size = 20, 1000
	linktest.In(t, w.host, func() error {
		conn, err := net.ListenPacket("udp", ":0")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for range count {
			if _, err := conn.WriteTo(make([]byte, size), &net.UDPAddr{IP: p.IPs[0].AsSlice(), Port: 9}); err != nil {
				return err
			}
			time.Sleep(time.Millisecond) // for the pod's refusals, whose number the kernel limits
		}
		return nil
	})
	after := counters(t, p)
	if got := after.RxPackets - before.RxPackets; got < count || got > 2*count {
		t.Errorf("%d packets came in, want %d", got, count)
	}
	if got := after.RxBytes - before.RxBytes; got < count*size || got > 2*count*size {
		t.Errorf("%d bytes came in, want %d", got, count*size)
	}
	if after.TxPackets == before.TxPackets || after.TxBytes == before.TxBytes {
		t.Error("no answer is counted")
	}
	if after.RxErrors+after.TxErrors+after.RxDropped+after.TxDropped > 0 {
		t.Errorf("errors and drops on a veth: %+v", after)
	}
}

// counters are those of eth0, which must be all there is.
func counters(t *testing.T, p *pod) InterfaceCounters {
	t.Helper()
	file, err := os.Open(p.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	list, err := Counters(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Name != DefaultInterface || !list[0].Up {
		t.Fatalf("%+v", list)
	}
	return list[0]
}

func TestRootCountersOfNoNamespace(t *testing.T) {
	linktest.Host(t)
	file, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if list, err := Counters(int(file.Fd())); err == nil {
		t.Errorf("a directory has counters: %v", list)
	}
}

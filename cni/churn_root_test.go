package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestRootChurn has pods come and go in parallel, some of which want one and the same port of the host, while the network is collected again and
// again by a list that knows none of them. No address and no port has two holders at a time, and nothing is left.
func TestRootChurn(t *testing.T) {
	const workers, turns = 8, 12
	w := newWorld(t, nil)
	var mu sync.Mutex
	holders := map[netip.Addr]string{}
	common := "" // who has the port that all want
	hold := func(name string, ips []netip.Addr, port bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, ip := range ips {
			if other := holders[ip]; other != "" {
				t.Errorf("%s is %s's and %s's", ip, other, name)
			}
			holders[ip] = name
		}
		if port && common != "" {
			t.Errorf("the port is %s's and %s's", common, name)
		}
		if port {
			common = name
		}
	}
	drop := func(ips []netip.Addr, port bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, ip := range ips {
			delete(holders, ip)
		}
		if port {
			common = ""
		}
	}
	var done sync.WaitGroup
	for worker := range workers {
		done.Go(func() {
			for turn := range turns {
				name := fmt.Sprintf("p%d-%d", worker, turn)
				a, remove := w.attachment(t, name, PortMapping{HostPort: int32(9000 + worker), ContainerPort: 80})
				if turn%3 == 0 {
					a.Ports[0].HostPort = 8080
				}
				r, err := w.Add(context.Background(), a)
				if err == nil {
					hold(name, r.IPs, turn%3 == 0)
					drop(r.IPs, turn%3 == 0) // before it is given back, as the next may have it at once
				} else if !errors.Is(err, ErrPortTaken) || turn%3 != 0 {
					t.Errorf("%s: %v", name, err)
				}
				if err := w.Del(context.Background(), a); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				remove()
			}
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for ctx.Err() == nil {
			if err := w.GC(context.Background(), nil); err != nil {
				t.Errorf("collect: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	done.Wait()
	stop()
	<-collected
	w.nothingLeft(t)
}

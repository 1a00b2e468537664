package bandwidth

import "testing"

// FuzzParse: whatever the configuration is, it is read or refused.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"net","mtu":1400,"ipam":{"type":"x"}}`, `{"ingressRate":8,"ingressBurst":8}`, `{"hwaddr":"02:00:00:00:00:01"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parse(data); (c == nil) != (err != nil) {
			t.Fatalf("%+v, %v", c, err)
		}
	})
}

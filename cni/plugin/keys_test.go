package plugin_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/berth-runtime/berth/cni/plugin"
)

type inner struct {
	Subnet string `json:"subnet"`
}

type keyed struct {
	inner
	Raw     json.RawMessage   `json:"raw"`
	Ranges  [][]inner         `json:"ranges"`
	Any     map[string]string `json:"any"`
	private int
	Hidden  int `json:"-"`
	IPAM    *struct {
		inner
		Ranges []inner `json:"ranges"`
	} `json:"ipam"`
}

func (keyed) Keys() any { return keyed{private: 1} }

func TestUnknownKeys(t *testing.T) {
	for conf, want := range map[string][]string{
		`{"cniVersion":"1.0.0","name":"n","type":"x","SUBNET":"a","raw":{"x":1},"any":{"x":"1"},"args":{"x":1},"cni.dev/attachments":[]}`: nil,
		`{"subnets":"a","Hidden":1,"private":1}`:                           {"Hidden", "private", "subnets"},
		`{"ranges":[[{"subnet":"a"},{"sub":"b"},{"sub":"c"}]]}`:            {"ranges.sub"},
		`{"ipam":{"type":"x","subnet":"a","gate":"b","ranges":[{"x":1}]}}`: {"ipam.gate", "ipam.ranges.x"},
		`{"ranges":7}`: nil,
		`not json`:     nil,
	} {
		if got := plugin.UnknownKeys([]byte(conf), keyed{}, keyed{}); !slices.Equal(got, want) {
			t.Errorf("%s: %v", conf, got)
		}
	}
	if got := plugin.UnknownKeys([]byte(`{"ipam":{"x":1}}`), keyed{}, nil); got != nil {
		t.Errorf("keys of another's IPAM plugin: %v", got)
	}
}

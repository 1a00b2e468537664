package trace

import (
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	for _, good := range []Config{{}, {Endpoint: "localhost:4317"}, {Endpoint: "https://[fd00::1]:4317", SamplingRatePerMillion: 1_000_000}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for key, bad := range map[string]Config{
		"endpoint \"local":             {Endpoint: "localhost"},
		"endpoint \"http:":             {Endpoint: "http://localhost:4317"},
		"sampling_rate_per_million":    {SamplingRatePerMillion: 1_000_001},
		"sampling_rate_per_million -1": {SamplingRatePerMillion: -1},
	} {
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A node without an endpoint has no tracer, and what is asked of none does nothing.
func TestNone(t *testing.T) {
	none, err := Open(t.Context(), Config{SamplingRatePerMillion: 5}, "1.0.0", nil)
	if none != nil || err != nil {
		t.Fatalf("%v, %v", none, err)
	}
	if id := none.ID(t.Context()); id != "" {
		t.Errorf("trace %s", id)
	}
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

package sandbox

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci"
)

// parseRlimits reads limits as the configuration has them: "nofile=1024:524288".
func parseRlimits(list []string) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	seen := map[string]bool{}
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		soft, hard, two := strings.Cut(value, ":")
		if !two {
			hard = soft
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name)}
		var ok1, ok2 bool
		l.Soft, ok1 = rlimitValue(soft)
		l.Hard, ok2 = rlimitValue(hard)
		switch {
		case !oci.KnownRlimit(l.Type):
			return nil, fmt.Errorf("rlimits %q: no limit of that name (setrlimit(2))", text)
		case !ok1 || !ok2 || l.Soft > l.Hard:
			return nil, fmt.Errorf(`rlimits %q: must be name=soft:hard with numbers or "unlimited", the soft one not above the hard one`, text)
		case seen[l.Type]:
			return nil, fmt.Errorf("rlimits %q: the limit is there twice", text)
		}
		seen[l.Type] = true
		out = append(out, l)
	}
	return out, nil
}

func rlimitValue(text string) (uint64, bool) {
	if text == "unlimited" {
		return math.MaxUint64, true // RLIM_INFINITY
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

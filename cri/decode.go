package cri

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// invalid says that a field's value breaks CRI's own rules.
func invalid(field, value, rule string) error {
	return &spec.FieldError{Field: field, Value: value, Rule: rule}
}

func missing(field string) error {
	return invalid(field, "", "must be set")
}

// decodeEnum looks a CRI enum up. proto3 enums are open: a client that is newer
// than we are may send a value that isn't in the table.
func decodeEnum[In interface {
	~int32
	fmt.Stringer
}, Out any](field string, in In, table map[In]Out) (Out, error) {
	out, ok := table[in]
	if !ok {
		return out, invalid(field, in.String(), "is a value that this runtime doesn't know")
	}
	return out, nil
}

// decodeList decodes each element. An empty list gives nil, so that records and
// comparisons don't see a difference that the wire doesn't carry; a null element,
// which JSON clients can produce, is refused.
func decodeList[In, Out any](field string, in []*In, decode func(field string, in *In) (Out, error)) ([]Out, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]Out, 0, len(in))
	for i, element := range in {
		name := fmt.Sprintf("%s[%d]", field, i)
		if element == nil {
			return nil, missing(name)
		}
		o, err := decode(name, element)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// decodeCIDRs reads what kubelet sends as the node's pod CIDR: none, one, or a
// comma separated list on a dual stack node.
func decodeCIDRs(field, in string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for part := range strings.SplitSeq(in, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, invalid(field, in, "must be a comma separated list of CIDRs")
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

// maxSeconds is where time.Duration ends: more would turn negative.
const maxSeconds = int64(1<<63-1) / int64(time.Second)

// decodeSeconds turns CRI's timeouts into durations. Negative ones count as 0.
func decodeSeconds(in int64) time.Duration {
	return time.Duration(min(max(in, 0), maxSeconds)) * time.Second
}

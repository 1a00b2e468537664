package cni

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Annotations by which a pod asks for limits (Kubernetes, "Support traffic shaping").
const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// bandwidthCapability is the capability bandwidth: bits a second, and bits.
type bandwidthCapability struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// bandwidthOf reads the annotations, nil when there are none.
func bandwidthOf(annotations map[string]string) (*bandwidthCapability, error) {
	out := &bandwidthCapability{}
	for _, limit := range []struct {
		key         string
		rate, burst *uint64
	}{
		{ingressAnnotation, &out.IngressRate, &out.IngressBurst},
		{egressAnnotation, &out.EgressRate, &out.EgressBurst},
	} {
		value, ok := annotations[limit.key]
		if !ok {
			continue
		}
		rate, err := parseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", limit.key, err)
		}
		if rate < 1e3 || rate > 1e15 { // as k8s.io/kubernetes/pkg/util/bandwidth has it
			return nil, fmt.Errorf("annotation %s: %s is not between 1k and 1P", limit.key, value)
		}
		*limit.rate, *limit.burst = rate, math.MaxInt32 // the burst that containerd and CRI-O give
	}
	if *out == (bandwidthCapability{}) {
		return nil, nil
	}
	return out, nil
}

// parseQuantity reads a quantity of Kubernetes: a decimal number with a suffix for a power of 10 or of 2, or an exponent. The result is
// rounded up to a whole number.
func parseQuantity(s string) (uint64, error) {
	digits := len(s) - len(strings.TrimLeft(s, "+0123456789."))
	number, suffix := s[:digits], s[digits:]
	value, ok := new(big.Rat).SetString(number)
	if !ok || len(s) > 32 {
		return 0, fmt.Errorf("%q is not a quantity", s)
	}
	scale, err := quantityScale(suffix)
	if err != nil {
		return 0, fmt.Errorf("%q is not a quantity: %w", s, err)
	}
	value.Mul(value, scale)
	whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsUint64() {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return whole.Uint64(), nil
}

func quantityScale(suffix string) (*big.Rat, error) {
	if suffix == "" {
		return big.NewRat(1, 1), nil
	}
	for i, unit := range []string{"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"} {
		if suffix == unit {
			return new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(10*(i+1)))), nil
		}
	}
	powers := map[string]int{"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
	power, ok := powers[suffix]
	if !ok {
		exponent, found := strings.CutPrefix(strings.ToLower(suffix), "e")
		var err error
		if power, err = strconv.Atoi(exponent); err != nil || !found || power < -18 || power > 18 {
			return nil, fmt.Errorf("unknown suffix %q", suffix)
		}
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(power, -power))), nil)
	if power < 0 {
		return new(big.Rat).SetFrac(big.NewInt(1), ten), nil
	}
	return new(big.Rat).SetInt(ten), nil
}

// Package spec holds what clients ask of pods and containers (Pod, Container),
// and builds the OCI runtime-spec Spec from it (Build). Everything in it is pure:
// values in, values out; it opens nothing and knows no other package of berth.
package spec

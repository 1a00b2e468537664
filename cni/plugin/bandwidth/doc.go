// Package bandwidth is the CNI plugin bandwidth: it bounds what a container receives and sends.
//
//	receives  a token bucket (tc-tbf(8)) on the host's end of the container's veth
//	sends     all that comes in by that end is led to an ifb, bwp<hash of network and container>, which has the token bucket
//
// with the reference plugin's parameters and names, so each takes over from the other. Rates are bits a second, bursts bits.
package bandwidth

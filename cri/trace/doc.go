// Package trace makes OpenTelemetry spans of requests, when the configuration says where to send them. kubelet's own traces
// (its gate KubeletTracing) come with each request as W3C trace context in the gRPC metadata, and go on here: whether a
// request is recorded is kubelet's decision, and without one that of a sampling rate.
//
// Without an endpoint nothing of it is there: no handler stands in a request's way.
package trace

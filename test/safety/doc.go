// Package safety attacks a running daemon from inside of its containers, once for each of the ways out
// of other runtimes that became known as CVEs. The comment of each test names the defence that it holds:
// with that taken out of the code, it fails.
//
// What can't be raced for over the socket, a process amid its launch, is attacked beside the code: see
// oci/safety_test.go.
package safety

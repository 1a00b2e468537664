// Package crash kills berth's processes while they work, and proves that nothing is
// lost: containers run on, no log line and no exit code goes missing, the next start
// finds or frees everything. All of it needs root and the binaries of make build.
package crash

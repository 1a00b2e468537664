// Package leak tells what a test left on the machine: mounts, namespaces, links,
// packet filter rules, cgroups, processes and files. Take a Snapshot before and one
// after; Since names what only the later one has.
//
// It looks at the kernel and at the disk, never at what berth says of itself. It
// sees the whole machine, so that something left under an unexpected name is found
// too. Where others work on the machine at the same time that would blame the test
// for what is theirs; Marked then keeps what bears one of the test's own names.
package leak

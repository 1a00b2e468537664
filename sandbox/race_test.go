//go:build race

package sandbox

// slower is how many times as long things may take: the race detector looks at every access to memory.
const slower = 20

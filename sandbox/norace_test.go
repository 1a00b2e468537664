//go:build !race

package sandbox

// slower is how many times as long things may take, without the race detector.
const slower = 1

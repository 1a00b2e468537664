// Command signals prints the number of the first signal that it gets, and ends.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals)
	fmt.Println("ready")
	for s := range signals {
		if s != syscall.SIGURG && s != syscall.SIGCHLD { // Go's own, and those of what it is the init of
			fmt.Println(int(s.(syscall.Signal)))
			return
		}
	}
}

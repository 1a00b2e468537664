// Command berth-keeper is the process that holds a node's containers: parent, log writer and reaper
// (package sandbox/keeper/server). The daemon starts it; nobody else needs to.
//
//	berth-keeper STATEDIR   with a listening socket as descriptor 3 and its log as 4
//	berth-keeper pause      PID 1 of a pod that shares its PID namespace
//
// It is small on purpose: it links no RPC, no JSON and no logging library.
package main

import (
	"os"

	"github.com/berth-runtime/berth/sandbox/keeper/server"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		server.Pause()
		return
	}
	os.Exit(server.Main(os.Args))
}

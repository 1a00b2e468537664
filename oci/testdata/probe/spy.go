package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// spy waits for another process to appear in its PID namespace, and tells what it can see of it.
func spy() {
	fmt.Println("watching")
	for {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
				json.NewEncoder(os.Stdout).Encode(seen("/proc/" + e.Name()))
				unix.Pause()
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// seen is what opening parts of a process says.
func seen(dir string) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"exe", "mem", "environ", "maps"} {
		f, err := os.Open(dir + "/" + name)
		if err == nil {
			_, err = f.Read(make([]byte, 1))
			f.Close()
		}
		out[name] = message(err)
	}
	for _, name := range []string{"root", "fd"} {
		_, err := os.ReadDir(dir + "/" + name)
		out[name] = message(err)
	}
	return out
}

// Command program is all that the demo's image has, under three names:
//
//	web    serves a page on port 80
//	fetch  gets a URL every two seconds and prints what came
//	look   prints what it sees of its container, once
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var err error
	switch name := filepath.Base(os.Args[0]); name {
	case "web":
		err = web(ctx)
	case "fetch":
		err = fetch(ctx, os.Args[1:])
	case "look":
		err = look()
	default:
		err = fmt.Errorf("no such command: %s", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func web(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find host name: %w", err)
	}
	server := &http.Server{Addr: ":80", ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Printf("%s %s from %s\n", r.Method, r.URL.Path, from)
		fmt.Fprintf(w, "Hello from pod %s, a container that berth runs.\n", host)
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Println("serving on port 80")
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func fetch(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: fetch URL")
	}
	client := &http.Client{Timeout: 5 * time.Second}
	for {
		text, err := get(client, args[0])
		if err != nil {
			fmt.Println("fetch:", err)
		} else {
			fmt.Println("fetched:", strings.TrimSpace(text))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}

func get(client *http.Client, url string) (string, error) {
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	return string(text), err
}

// look prints the container from the inside.
func look() error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find host name: %w", err)
	}
	fmt.Printf("host name   %s\nprocess     %d, user %d\n", host, os.Getpid(), os.Getuid())
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		fmt.Printf("address     %s\n", a)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, path := range processes {
		if command, err := os.ReadFile(path); err == nil {
			fmt.Printf("sees        %s %s\n", filepath.Base(filepath.Dir(path)), strings.ReplaceAll(strings.TrimRight(string(command), "\x00"), "\x00", " "))
		}
	}
	return nil
}

// Command web is the web server of the test images. It stands in for nginx and
// httpd: it does what tests look for in those and nothing else.
//
//	nginx …   re-executes itself as "nginx: master process …", writes /var/run/nginx.pid
//	httpd …   says its name in the log, as Apache does when it has no ServerName
//	web …     just serves
//
// It listens on PORT (80 when unset), answers 200 with the host's name, and ends
// on SIGTERM, SIGQUIT, SIGWINCH and SIGINT.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const master = "nginx: master process "

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch name := filepath.Base(args[0]); {
	case name == "nginx":
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own program: %w", err)
		}
		title := master + strings.Join(args, " ")
		return fmt.Errorf("execute %s: %w", self, syscall.Exec(self, []string{title}, os.Environ()))
	case strings.HasPrefix(args[0], master):
		if err := os.WriteFile("/var/run/nginx.pid", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return fmt.Errorf("write pid file: %w", err)
		}
	case name == "httpd":
		fmt.Println("AH00558: httpd: Could not reliably determine the server's fully qualified domain name")
	}
	return serve()
}

func serve() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH)
	defer stop()
	server := &http.Server{Addr: ":" + port, Handler: http.HandlerFunc(hello), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	host, _ := os.Hostname()
	fmt.Printf("%s %s from %s\n", r.Method, r.URL.Path, r.RemoteAddr)
	fmt.Fprintf(w, "hello from %s\n", host)
}

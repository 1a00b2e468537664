// Command vm runs tests in a virtual machine (test/vm) as go test runs them here:
//
//	vm with [-systemd [-v1]] [-append 'WORDS'] COMMAND…   boots one that has this tree, runs COMMAND here, ends it
//	vm prepare                                             makes what all of that takes, once
//	vm exec BINARY ARGS…                                   runs BINARY in that machine; for go test -exec
//
// COMMAND finds the machine by BERTH_VM in its environment:
//
//	vm with go test -exec 'vm exec' ./oci/cgroup
//
// A test binary runs in the directory that it would have here, with the variables that
// begin with BERTH_. What tests build, they find built in .cache, as there is no Go in
// the machine. The logs of failed tests come back to .cache/test-logs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/runtimes"
	"github.com/berth-runtime/berth/test/vm"
)

// socketVariable leads COMMAND to the machine.
const socketVariable = "BERTH_VM"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	code, err := 2, errors.New("usage: vm with [-systemd [-v1]] [-append WORDS] COMMAND… | vm prepare | vm exec BINARY ARGS…")
	if len(os.Args) > 2 || len(os.Args) == 2 && os.Args[1] == "prepare" {
		switch os.Args[1] {
		case "with":
			code, err = with(ctx, os.Args[2:])
		case "prepare":
			err = prepare()
			code = 0
		case "exec":
			code, err = execIn(os.Args[2], os.Args[3:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// newStage makes a directory in the cache, which a fresh checkout has none of.
func newStage(cache string) (string, error) {
	err := os.MkdirAll(cache, 0o755)
	if err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	stage, err := os.MkdirTemp(cache, "stage-")
	if err != nil {
		return "", fmt.Errorf("make stage: %w", err)
	}
	return stage, nil
}

// prepare builds what several machines at once would each wait for.
func prepare() error {
	root, err := images.ModuleRoot()
	if err != nil {
		return err
	}
	return errors.Join(build(root), vm.Prepare())
}

// with returns COMMAND's exit code.
func with(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("with", flag.ExitOnError)
	systemd := flags.Bool("systemd", false, "systemd as PID 1")
	v1 := flags.Bool("v1", false, "cgroup v1, with systemd")
	words := flags.String("append", "", "more for the kernel's command line")
	_ = flags.Parse(args) // it exits
	root, err := images.ModuleRoot()
	if err != nil {
		return 1, err
	}
	stage, err := newStage(filepath.Join(root, ".cache"))
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(stage)
	if err := fill(stage, root); err != nil {
		return 1, err
	}
	begin := time.Now()
	m, err := vm.Boot(ctx, vm.Options{Tree: stage, At: root, Systemd: *systemd, CgroupV1: *v1, Append: *words})
	if err != nil {
		return 1, err
	}
	defer m.Kill()
	fmt.Fprintf(os.Stderr, "vm: booted in %.1f s\n", time.Since(begin).Seconds())
	socket := filepath.Join(stage, "socket")
	if err := serve(m, socket); err != nil {
		return 1, err
	}
	c := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	c.Env = append(os.Environ(), socketVariable+"="+socket)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		return 1, fmt.Errorf("run %s: %w", flags.Arg(0), err)
	}
	return c.ProcessState.ExitCode(), fetchLogs(ctx, m, root)
}

// fetchLogs brings back what failed tests keep.
func fetchLogs(ctx context.Context, m *vm.Machine, root string) error {
	in := exec.Command("tar", "-x", "-C", root)
	pipe, err := in.StdinPipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	if err := in.Start(); err != nil {
		return fmt.Errorf("start tar: %w", err)
	}
	const script = "mkdir -p .cache/test-logs && tar -c .cache/test-logs"
	err = m.Run(ctx, vm.Command{Args: []string{"sh", "-c", script}, Dir: root, Stdout: pipe, Stderr: os.Stderr})
	if err := errors.Join(err, pipe.Close(), in.Wait()); err != nil {
		return fmt.Errorf("fetch logs of tests: %w", err)
	}
	return nil
}

// fill links into stage what the tests find beside them: the tree's own files, the
// programs under test, and what the tests have built.
func fill(stage, root string) error {
	if err := build(root); err != nil {
		return err
	}
	list := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	list.Dir = root
	text, err := list.Output()
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	names := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, pattern := range []string{"bin/*", ".cache/busybox", ".cache/runc", ".cache/programs/*", ".cache/cni*/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("find %s: %w", pattern, err)
		}
		for _, path := range found {
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				continue // bin/linux-ARCH
			}
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
	}
	for _, name := range names {
		to := filepath.Join(stage, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("fill stage: %w", err)
		}
		err := os.Link(filepath.Join(root, name), to)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // removed, and not yet from the index
			return fmt.Errorf("fill stage: %w", err)
		}
	}
	return nil
}

// build builds what the tests would.
func build(root string) error {
	packages, err := filepath.Glob(filepath.Join(root, "test/images/programs/*"))
	if err != nil {
		return fmt.Errorf("find programs: %w", err)
	}
	for _, dir := range append(packages, filepath.Join(root, "oci/testdata/probe")) {
		pkg, err := filepath.Rel(root, dir)
		if err != nil {
			return fmt.Errorf("find programs: %w", err)
		}
		if _, err := images.Program(pkg); err != nil {
			return err
		}
	}
	if _, err = images.New(); err != nil { // busybox
		return err
	}
	_, err = runtimes.Path("runc")
	return err
}

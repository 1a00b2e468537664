package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bridge       = "berth-demo"
	subnets      = `["10.89.77.0/24", "fd00:89:77::/64"]`
	cgroupParent = "/berth-demo"
	imageName    = "demo.berth.test/hello:1"
)

// place is where the demo's daemon lives; nothing of it is shared with another.
type place struct {
	bin         string // of berth, berth-keeper and crictl
	root, state string
}

func newPlace() (place, error) {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return place{}, fmt.Errorf("find programs: %w", err)
	}
	for _, name := range []string{"berth", "berth-keeper", "crictl"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return place{}, fmt.Errorf("find programs (make demo builds them): %w", err)
		}
	}
	return place{bin: bin, root: "/var/lib/berth-demo", state: "/run/berth-demo"}, nil
}

func (p place) socket() string  { return filepath.Join(p.state, "berth.sock") }
func (p place) config() string  { return filepath.Join(p.root, "config.toml") }
func (p place) log() string     { return filepath.Join(p.root, "berth.log") }
func (p place) pidFile() string { return filepath.Join(p.state, "berth.pid") }
func (p place) file(name string) string {
	return filepath.Join(p.root, "demo", name)
}

// lay writes the daemon's directories and configuration, and crictl's.
func (p place) lay() error {
	for _, dir := range []string{p.file("logs"), p.file("net.d"), p.file("certs.d"), p.state} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	config := fmt.Sprintf(`root = %q
state = %q

[images]
registry_config_dir = %q

[network]
conf_dir = %q
builtin_bridge = %q
builtin_subnets = %s
`, p.root, p.state, p.file("certs.d"), p.file("net.d"), bridge, subnets)
	crictl := fmt.Sprintf("runtime-endpoint: unix://%s\nimage-endpoint: unix://%[1]s\ntimeout: 30\n", p.socket())
	for path, text := range map[string]string{p.config(): config, p.file("crictl.yaml"): crictl} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// running returns the daemon's process, 0 when there is none.
func (p place) running() int {
	text, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	// The number may have gone to another process: it must be a berth of this place.
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(command), p.config()) {
		return 0
	}
	return pid
}

// start starts the daemon in the background and waits until its socket answers.
func (p place) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	c := exec.Command(filepath.Join(p.bin, "berth"), "serve", "--config", p.config())
	show(c, "&")
	c.Stdout, c.Stderr, c.Dir = log, log, "/"
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start berth: %w", err)
	}
	if err := os.WriteFile(p.pidFile(), []byte(strconv.Itoa(c.Process.Pid)), 0o644); err != nil {
		return fmt.Errorf("note berth's process: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // ends with the daemon or with us
	for {
		if conn, err := net.Dial("unix", p.socket()); err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(p.log())
			return fmt.Errorf("start berth: it ended: %w\n%s", err, text)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the daemon and waits for its end.
func (p place) stop(ctx context.Context) error {
	pid := p.running()
	if pid == 0 {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop berth: %w", err)
	}
	for p.running() != 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop berth: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// crictl runs crictl against the daemon, shows both and returns the output.
func (p place) crictl(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(p.bin, "crictl"), append([]string{"--config", p.file("crictl.yaml")}, args...)...)
	return output(c)
}

// output runs a command, shows it with what it prints, and returns that.
func output(c *exec.Cmd) (string, error) {
	show(c, "")
	text, err := c.CombinedOutput()
	for line := range strings.Lines(strings.TrimSpace(string(text)) + "\n") {
		fmt.Print("    ", line)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
	}
	return strings.TrimSpace(string(text)), nil
}

// show prints a command as one would type it.
func show(c *exec.Cmd, suffix string) {
	words := append([]string(nil), c.Args...)
	if here, err := os.Getwd(); err == nil {
		words[0] = strings.TrimPrefix(words[0], here+"/")
	}
	fmt.Println("  $", strings.TrimSpace(strings.Join(words, " ")+" "+suffix))
}

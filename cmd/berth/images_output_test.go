package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExportOntoWhatIsNoFile: what -o names may be a pipe or a device, which is written to and never replaced.
func TestExportOntoWhatIsNoFile(t *testing.T) {
	socket := serveShelf(t, &shelf{})
	dir := t.TempDir()
	config := filepath.Join(dir, "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	export := func(path string) error {
		_, err := run(t, "images", "export", "--config", config, "--socket", socket, "-o", path, "a")
		return err
	}

	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := export(pipe); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Fatalf("the pipe is now %v, %v", info, err)
	}
	got := make([]byte, 100)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "archive of a" {
		t.Errorf("read %q, %v", got[:n], err)
	}

	target, link := filepath.Join(dir, "target.tar"), filepath.Join(dir, "link.tar")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := export(link); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(target); err != nil || string(raw) != "archive of a" {
		t.Errorf("behind the link: %q, %v", raw, err)
	}

	if err := export("/dev/full"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("onto a full device: %v", err)
	}
	if err := export(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("onto a directory: %v", err)
	}
	for _, name := range []string{pipe, target, link, "/dev/full", dir} {
		if _, err := os.Lstat(name + ".partial"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s.partial is left: %v", name, err)
		}
	}
}

func TestExportSaysTheDaemonsWords(t *testing.T) {
	socket := serveShelf(t, &shelf{})
	config := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, "images", "export", "--config", config, "--socket", socket, "-o", filepath.Join(t.TempDir(), "a.tar"), "absent")
	if err == nil || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("%v", err)
	}
}

// TestUnknownSubcommand: a mistyped command isn't a success.
func TestUnknownSubcommand(t *testing.T) {
	for _, args := range [][]string{{"images", "lst"}, {"config", "chek"}} {
		if out, err := run(t, args...); err == nil || !strings.Contains(err.Error(), args[1]) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

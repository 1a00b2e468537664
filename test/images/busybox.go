package images

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/berth-runtime/berth/test/debian"
)

// busyboxConfig is what differs from busybox's defaults: static; applets run as
// found on PATH, so that a masked /bin/ls is really gone; and no tc, which current
// kernel headers don't build.
var busyboxConfig = strings.NewReplacer(
	"CONFIG_TC=y", "# CONFIG_TC is not set",
	"# CONFIG_STATIC is not set", "CONFIG_STATIC=y",
	"CONFIG_FEATURE_SH_STANDALONE=y", "# CONFIG_FEATURE_SH_STANDALONE is not set",
	"CONFIG_FEATURE_PREFER_APPLETS=y", "# CONFIG_FEATURE_PREFER_APPLETS is not set",
)

// busybox is the program and the names of what it can be called as.
type busybox struct {
	program []byte
	applets []string
}

// loadBusybox returns the program, built if it has not been on this machine.
func loadBusybox() (*busybox, error) {
	path, err := Cached("busybox", buildBusybox)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list applets of busybox: %w", err)
	}
	return &busybox{program: program, applets: strings.Fields(string(list))}, nil
}

// buildBusybox builds the program from Debian's source package; half a minute.
func buildBusybox(path string) error {
	dir, err := os.MkdirTemp("", "busybox-build-")
	if err != nil {
		return fmt.Errorf("make build directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := debian.Source(dir, "busybox"); err != nil {
		return err
	}
	archive, err := only(filepath.Join(dir, "busybox_*.orig.tar.bz2"))
	if err != nil {
		return err
	}
	if err := untarBzip2(archive, dir); err != nil {
		return err
	}
	source, err := only(filepath.Join(dir, "busybox-*"))
	if err != nil {
		return err
	}
	if err := command(source, nil, "make", "defconfig"); err != nil {
		return err
	}
	if err := configure(filepath.Join(source, ".config")); err != nil {
		return err
	}
	if err := command(source, strings.NewReader(strings.Repeat("\n", 100)), "make", "oldconfig"); err != nil {
		return err
	}
	if err := command(source, nil, "make", "-j"+strconv.Itoa(runtime.NumCPU()), "busybox"); err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(source, "busybox"))
	if err != nil {
		return fmt.Errorf("read what was built: %w", err)
	}
	return os.WriteFile(path, program, 0o755)
}

// only returns the one path that matches pattern.
func only(pattern string) (string, error) {
	paths, err := filepath.Glob(pattern)
	if err == nil && len(paths) != 1 {
		err = fmt.Errorf("%d files there, not one", len(paths))
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w", filepath.Base(pattern), err)
	}
	return paths[0], nil
}

func configure(path string) error {
	config, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read busybox's configuration: %w", err)
	}
	return os.WriteFile(path, []byte(busyboxConfig.Replace(string(config))), 0o644)
}

// untarBzip2 unpacks the directories and regular files of an archive, all that a
// source package's has, below dir. os.Root keeps it there.
func untarBzip2(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open source archive: %w", err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open build directory: %w", err)
	}
	defer root.Close()
	for r := tar.NewReader(bzip2.NewReader(f)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(archive), err)
		}
		if err := untarEntry(root, h, r); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
}

func untarEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(filepath.Clean(h.Name), 0o755)
	case tar.TypeReg:
		f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, os.FileMode(h.Mode&0o755))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close(), root.Chtimes(h.Name, h.ModTime, h.ModTime))
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, h.Name)
	}
	return nil
}

// command runs a program in dir; its output is part of the error when it fails.
func command(dir string, stdin io.Reader, name string, args ...string) error {
	var out bytes.Buffer
	c := exec.Command(name, args...)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, stdin, &out, &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, lastBytes(out.String(), 4000))
	}
	return nil
}

func lastBytes(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

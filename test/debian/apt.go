package debian

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kinds of packages, as sources.list(5) calls them.
const (
	binary = "deb"
	source = "deb-src"
)

// apt is one private state of apt.
type apt struct {
	dir     string
	options []string
}

// open makes the state in dir and fetches the lists of packages of a kind.
func open(dir, kind string) (*apt, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil, fmt.Errorf("read the system's name: %w", err)
	}
	sources, err := sourcesOf("/etc/apt", kind, codename(string(release)))
	if err != nil {
		return nil, err
	}
	if sources == "" {
		return nil, errors.New("find Debian's sources: /etc/apt names no Debian archive")
	}
	file, status := filepath.Join(dir, "debian.sources"), filepath.Join(dir, "status")
	if err := errors.Join(os.WriteFile(file, []byte(sources), 0o644), os.WriteFile(status, nil, 0o644)); err != nil {
		return nil, fmt.Errorf("write sources: %w", err)
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make apt's directories: %w", err)
		}
	}
	a := &apt{dir: dir, options: []string{
		"-o", "Dir::Etc::sourcelist=" + file, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State=" + dir, "-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "APT::Sandbox::User=root", // it could not write to dir otherwise
		"-o", "APT::Install-Recommends=false", "-o", "Acquire::Languages=none",
	}}
	return a, a.get("update")
}

func (a *apt) get(args ...string) error {
	return run(a.dir, "apt-get", append(a.options, args...)...)
}

// Source downloads the source package name into dir.
func Source(dir, name string) error {
	a, err := open(dir, source)
	if err != nil {
		return err
	}
	return a.get("source", "--download-only", name)
}

// Tree unpacks the named packages and all that they depend on below root, which is
// made. No script of theirs runs, so nothing of root is set up: no users, no
// alternatives. /bin, /sbin and /lib are links into /usr, as on any node.
func Tree(root string, names ...string) error {
	dir, err := os.MkdirTemp("", "debian-")
	if err != nil {
		return fmt.Errorf("make directory for packages: %w", err)
	}
	defer os.RemoveAll(dir)
	a, err := open(dir, binary)
	if err != nil {
		return err
	}
	// With an empty status nothing is installed, so the dependencies are complete.
	if err := a.get(append([]string{"install", "--yes", "--download-only"}, names...)...); err != nil {
		return err
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", d), 0o755); err != nil {
			return fmt.Errorf("make tree: %w", err)
		}
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			return fmt.Errorf("make tree: %w", err)
		}
	}
	archives, err := filepath.Glob(filepath.Join(dir, "cache/archives/*.deb"))
	if err != nil {
		return fmt.Errorf("find packages: %w", err)
	}
	for _, archive := range archives {
		if err := unpack(archive, root); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes a package's files below root, following the links in it that lead
// to directories. Manuals and the like stay away.
func unpack(archive, root string) error {
	out := exec.Command("dpkg-deb", "--fsys-tarfile", archive)
	pipe, err := out.StdoutPipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	var packer, tar bytes.Buffer
	out.Stderr = &packer
	in := exec.Command("tar", "-x", "-C", root, "--keep-directory-symlink",
		"--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale", "--exclude=./usr/share/lintian")
	in.Stdin, in.Stderr = pipe, &tar
	if err := out.Start(); err != nil {
		return fmt.Errorf("start dpkg-deb: %w", err)
	}
	if err := errors.Join(in.Run(), out.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(archive), err, packer.String()+tar.String())
	}
	return nil
}

// run runs a program in dir; its output is part of the error when it fails.
func run(dir, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

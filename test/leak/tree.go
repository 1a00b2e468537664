package leak

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// cgroups are the directories of every cgroup hierarchy.
func cgroups() ([]Leak, error) {
	var out []Leak
	err := walk("/sys/fs/cgroup", func(path string, d fs.DirEntry) error {
		if d.IsDir() {
			out = append(out, Leak{"cgroup", path, ""})
		}
		return nil
	})
	return out, err
}

// shallow are directories of which only the names right in them count: whoever has a
// directory there may do in it as he likes.
var shallow = map[string]bool{"/tmp": true}

// ignored are files that the Go tools and apt make and remove while tests run.
var ignored = []string{"/tmp/go-build", "/tmp/go-link-", "/tmp/go.", "/tmp/gopath", "/var/lib/apt/", "/var/lib/dpkg/", "/tmp/vet-", "/tmp/staticcheck"}

// files are the names below dirs; what is mounted there is left out.
func files(dirs []string) ([]Leak, error) {
	mounted, err := mountPoints()
	if err != nil {
		return nil, err
	}
	var out []Leak
	for _, dir := range dirs {
		err := walk(dir, func(path string, d fs.DirEntry) error {
			if mounted[path] && path != dir && d.IsDir() {
				return fs.SkipDir // and a mount is a leak of its own
			}
			for _, prefix := range ignored {
				if strings.HasPrefix(path, prefix) {
					if d.IsDir() {
						return fs.SkipDir
					}
					return nil
				}
			}
			out = append(out, Leak{"file", path, ""})
			if d.IsDir() && shallow[filepath.Dir(path)] {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// walk visits everything below dir that lasts long enough to be seen, dir's own
// link followed.
func walk(dir string, visit func(path string, d fs.DirEntry) error) error {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resolve %s: %w", dir, err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || d == nil {
			return nil
		}
		if err != nil {
			return err
		}
		return visit(path, d)
	})
	if err != nil {
		return fmt.Errorf("walk %s: %w", dir, err)
	}
	return nil
}

package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CacheDir returns the directory that keeps what was built, made if missing:
// BERTH_CACHE, or .cache at the root of the module around the working directory.
func CacheDir() (string, error) {
	dir := os.Getenv("BERTH_CACHE")
	if dir == "" {
		root, err := ModuleRoot()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// ModuleRoot returns the directory of the go.mod around the working directory.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find module: no go.mod in the working directory or above")
		}
		dir = up
	}
}

// Cached returns the path of name in the cache. When it is missing, build makes it
// at a temporary path, which becomes name by rename; other processes wait.
func Cached(name string, build func(path string) error) (string, error) {
	var path string
	err := locked(func(dir string) error {
		path = filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		temporary := path + ".new"
		if err := os.RemoveAll(temporary); err != nil {
			return fmt.Errorf("clear %s: %w", temporary, err)
		}
		if err := build(temporary); err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
		return os.Rename(temporary, path)
	})
	return path, err
}

// locked runs f with the cache's directory, one process at a time.
func locked(f func(dir string) error) error {
	dir, err := CacheDir()
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open cache lock: %w", err)
	}
	defer lock.Close() // and with it the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock cache: %w", err)
	}
	return f(dir)
}

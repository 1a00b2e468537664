package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-runtime/berth/test/images"
)

// drivers are the modules that the root's mount and the port take; what comes later,
// the kernel loads itself.
var drivers = []string{"virtio_pci", "virtio_blk", "virtio_console", "ext4"}

// initramfs returns the initial file system: the guest and the drivers.
func initramfs(root string) ([]byte, error) {
	guest, err := images.Program("test/vm/guest")
	if err != nil {
		return nil, err
	}
	kernel, err := release(root)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "usr/lib/modules", kernel)
	dependencies, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("read modules' dependencies: %w", err)
	}
	var a cpio
	a.file("init", 0o100755, guest)
	a.file("modules", 0o040755, nil)
	a.file("dev", 0o040755, nil)
	for i, path := range loadOrder(string(dependencies), drivers) {
		content, err := module(filepath.Join(dir, path))
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(filepath.Base(path), ".ko")
		a.file(fmt.Sprintf("modules/%02d-%s", i, name), 0o100644, content)
	}
	return a.end(), nil
}

// loadOrder returns the paths of modules and of all that they need, in the order in
// which they load, from modules.dep(5): "PATH: its needs, the first needed last". What
// is not listed is built in.
func loadOrder(dependencies string, modules []string) []string {
	var out []string
	for _, wanted := range modules {
		for line := range strings.Lines(dependencies) {
			path, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, _ := strings.Cut(filepath.Base(path), ".ko")
			if strings.ReplaceAll(name, "-", "_") != wanted {
				continue
			}
			first := strings.Fields(needs)
			slices.Reverse(first)
			for _, p := range append(first, path) {
				if !slices.Contains(out, p) {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// module is the content of a module's file; Debian compresses them from 13 on.
func module(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		content, err := exec.Command("xz", "-dc", path).Output()
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", path, err)
		}
		return content, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	return content, nil
}

// cpio is an archive in the form that the kernel reads ("newc", cpio(5)).
type cpio struct {
	bytes.Buffer
	files int
}

// file appends one. Everything belongs to root and was last changed in 1970.
func (a *cpio) file(name string, mode uint32, content []byte) {
	a.files++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.files, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *cpio) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}

// end closes the archive.
func (a *cpio) end() []byte {
	a.file("TRAILER!!!", 0, nil)
	return a.Bytes()
}

package imagestore

import (
	"errors"
	"os"
	"sync"

	"github.com/berth-runtime/berth/imagestore/erofs"
)

// errMountsClosed: the store is closed.
var errMountsClosed = errors.New("the store is closed")

// mounts are the detached mounts of layers that are files. Each is made when it is first wanted, and is there until its layer is thrown away:
// one descriptor a layer that containers were made of, however many they are. The zero value has none.
type mounts struct {
	letGo func(*os.File) error // of a mount that was in an overlay; nil: Close

	mu     sync.Mutex
	byName map[string]*layerMount
	closed bool
}

// layerMount is the mount of one layer. file and err are there to be read once made is closed; the rest is the table's.
type layerMount struct {
	made chan struct{}
	file *os.File
	err  error

	users     int
	forgotten bool // the last user closes it
}

// take is the mount of a layer, which is in the file at path. It stays open until release is called, also if the layer goes meanwhile: its
// descriptor's number never comes to mean something else under somebody who is about to use it.
func (m *mounts) take(chain, path string) (_ *os.File, release func(), err error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, nil, errMountsClosed
	}
	mount := m.byName[chain]
	mine := mount == nil
	if mine {
		mount = &layerMount{made: make(chan struct{})}
		if m.byName == nil {
			m.byName = map[string]*layerMount{}
		}
		m.byName[chain] = mount
	}
	mount.users++
	m.mu.Unlock()
	if mine {
		mount.file, mount.err = erofs.Mount(path)
		close(mount.made)
	}
	<-mount.made // soon: who makes it waits for the disk only
	release = sync.OnceFunc(func() { m.release(mount) })
	if mount.err != nil {
		m.drop(chain, mount) // the next one tries again
		release()
		return nil, nil, mount.err
	}
	return mount.file, release, nil
}

func (m *mounts) release(mount *layerMount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mount.users--
	m.closeUnused(mount)
}

// closeUnused closes what nobody has or will get. Under mu.
func (m *mounts) closeUnused(mount *layerMount) {
	if !mount.forgotten || mount.users > 0 || mount.file == nil {
		return
	}
	letGo := m.letGo
	if letGo == nil {
		letGo = (*os.File).Close
	}
	_ = letGo(mount.file) // what can't be unmounted goes with the store
	mount.file = nil
}

// forget lets go of a layer's mount, if there is one.
func (m *mounts) forget(chain string) {
	m.mu.Lock()
	mount := m.byName[chain]
	m.mu.Unlock()
	if mount != nil {
		m.drop(chain, mount)
	}
}

// drop is forget unless the layer has another mount by now.
func (m *mounts) drop(chain string, mount *layerMount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName[chain] == mount {
		delete(m.byName, chain)
	}
	mount.forgotten = true
	m.closeUnused(mount)
}

// close lets go of all mounts, and lets none be made. It may be called twice.
func (m *mounts) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for chain, mount := range m.byName {
		delete(m.byName, chain)
		mount.forgotten = true
		m.closeUnused(mount)
	}
}

package imagestore

import (
	"os"
	"path/filepath"
	"sync"
)

// spare is a directory in staging for the next writable layer.
type spare struct {
	mu  sync.Mutex
	dir string // "": none is there
}

// take gives it away; "": none was there.
func (s *spare) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := s.dir
	s.dir = ""
	return dir
}

// ExpectSnapshot makes the directories of a writable layer ahead of the PrepareSnapshot or PrepareMapped that will need
// them, and has half the work left then. It may be called any number of times; those of one snapshot are kept, until Close.
func (sn *snapshotter) ExpectSnapshot() error {
	sn.spare.mu.Lock()
	defer sn.spare.mu.Unlock()
	if sn.spare.dir != "" {
		return nil
	}
	var err error
	sn.spare.dir, err = sn.writableDirs(false)
	return err
}

// counted says whether the kernel counts what a snapshot takes. It does so for containers in user namespaces: others may take their files out of
// a project, and so out of the count ("only allowed to change from within the init namespace", fileattr_set_prepare of fs/file_attr.c).
func (sn *snapshotter) counted(snap *snapshot) bool { return sn.projects != nil && snap.ids != nil }

// writableDirs makes, in staging, the directories that an overlay writes to.
func (sn *snapshotter) writableDirs(counted bool) (string, error) {
	dir, err := sn.newStaging("staging", "snapshot")
	if err != nil {
		return "", err
	}
	if counted { // before anything is in it: what is made there inherits the project
		if err := sn.projects.Assign(dir); err != nil {
			sn.log.WithField("op", "count snapshot").WithError(err).Debug("image store: a writable layer is walked to be measured")
		}
	}
	for _, name := range []string{"fs", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			sn.discard(dir)
			return "", err
		}
	}
	return dir, nil
}

// dropSpare deletes what is not needed any more.
func (sn *snapshotter) dropSpare() {
	if dir := sn.spare.take(); dir != "" {
		sn.discard(dir)
	}
}

package cni

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

const (
	// refreshEvery is how often the configuration is looked at without an event.
	refreshEvery = 10 * time.Second
	// settleDelay collects the events of one change: a file that is written in parts, a directory that is filled.
	settleDelay = 50 * time.Millisecond
)

// watcher calls refresh when something changes in a directory, which need not exist, may be removed and made again, or be renamed into
// place.
type watcher struct {
	dir     string
	log     logrus.FieldLogger
	refresh func(context.Context)
	events  *fsnotify.Watcher // nil when the node has no inotify left: then time alone calls

	cancel context.CancelFunc
	done   chan struct{}
}

func newWatcher(ctx context.Context, dir string, log logrus.FieldLogger, refresh func(context.Context)) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{dir: filepath.Clean(dir), log: log, refresh: refresh, cancel: cancel, done: make(chan struct{})}
	events, err := fsnotify.NewWatcher()
	if err != nil {
		log.WithError(err).Warn("network configuration is not watched, only looked at")
	}
	w.events = events
	go w.run(ctx) // ends with Close
	return w
}

// Close returns when refresh will not be called again.
func (w *watcher) Close() {
	w.cancel()
	<-w.done
	if w.events != nil {
		_ = w.events.Close()
	}
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.done)
	var events chan fsnotify.Event
	var lost chan error
	if w.events != nil {
		events, lost = w.events.Events, w.events.Errors
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if w.concerns(e.Name) {
				timer.Reset(settleDelay)
			}
		case <-lost: // some events, as the kernel keeps only so many (inotify(7)); unread, it would hold up those to come
			timer.Reset(settleDelay)
		case <-timer.C:
			w.follow()
			w.refresh(ctx)
			timer.Reset(refreshEvery)
		}
	}
}

// follow watches the directory and what is above it, as far up as something is missing: a directory's own watch ends with it, and
// only its parent sees the next one come.
func (w *watcher) follow() {
	if w.events == nil {
		return
	}
	for path := w.dir; ; path = filepath.Dir(path) {
		err := w.events.Add(path)
		if path == filepath.Dir(path) || (err == nil && path != w.dir) {
			return
		}
	}
}

// concerns says whether path is the directory, in it, or above it.
func (w *watcher) concerns(path string) bool {
	path = filepath.Clean(path)
	return path == w.dir || strings.HasPrefix(path, w.dir+"/") || strings.HasPrefix(w.dir, path+"/")
}

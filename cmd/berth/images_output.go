package main

import (
	"errors"
	"io/fs"
	"os"
)

// output is what an archive is written to: a file that appears by rename when it is whole, so that half an archive is never taken for one. What is
// there already and is no regular file (a device, a pipe, a link) is written to as it is: a rename would put a file in its place.
type output struct {
	*os.File
	partial, path string // partial is "" without a rename
}

// createOutput opens the output for path. Either commit or discard must be called on it.
func createOutput(path string) (*output, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		return &output{File: f, path: path}, err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	partial := path + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	return &output{File: f, partial: partial, path: path}, err
}

// commit gives the file its name. After an error it is discarded.
func (o *output) commit() error {
	if err := o.Close(); err != nil {
		o.discard()
		return err
	}
	if o.partial == "" {
		return nil
	}
	if err := os.Rename(o.partial, o.path); err != nil {
		o.discard()
		return err
	}
	return nil
}

// discard removes what was written, where that is a file of its own.
func (o *output) discard() {
	o.Close() // again after commit's
	if o.partial != "" {
		os.Remove(o.partial) // the error that led here is the one to tell
	}
}

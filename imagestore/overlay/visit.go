package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// visit is what a mount needs in the room besides layers that are mounts: copies of what is attached outside.
type visit struct {
	o Options
	// lowers are those of o that are directories, mapped, and of others nil.
	lowers []*os.File
	// top has o.Upper and o.Work in it; nil: they are none. upper and work are the paths in it.
	top         *os.File
	upper, work string
	// visitors are those that are attached.
	visitors []string
}

// newVisit makes the copies. It is called where the node's mounts are; the caller closes it.
func newVisit(o Options) (*visit, error) {
	v := &visit{o: o, lowers: make([]*os.File, len(o.Lowers))}
	for i, lower := range o.Lowers {
		if lower.Mount != nil {
			continue
		}
		var err error
		if v.lowers[i], err = lower.clone(0, o.Users); err != nil {
			v.close()
			return nil, err
		}
	}
	if o.Upper == "" {
		return v, nil
	}
	above := filepath.Dir(o.Upper)
	for !within(above, o.Work) {
		above = filepath.Dir(above)
	}
	top, err := Lower{Path: above}.clone(0, nil)
	if err != nil {
		v.close()
		return nil, err
	}
	v.top = top
	v.upper, err = filepath.Rel(above, o.Upper)
	if err == nil {
		v.work, err = filepath.Rel(above, o.Work)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *visit) close() { closeAll(append(v.lowers, v.top)) }

// mount makes the overlay with create, which gets options whose paths are the room's. Only layers that are mounts stay there.
func (v *visit) mount(r *room, create func(Options) (*os.File, error)) (file *os.File, err error) {
	defer func() {
		for _, at := range v.visitors {
			err = errors.Join(err, r.detach(at))
		}
		if err != nil && file != nil {
			file.Close()
			file = nil
		}
	}()
	o, err := v.options(r)
	if err != nil {
		return nil, err
	}
	return create(o)
}

func (v *visit) options(r *room) (Options, error) {
	o := v.o
	o.Users, o.mixed, o.Lowers = nil, true, make([]Lower, len(v.o.Lowers))
	for i, lower := range v.o.Lowers {
		var err error
		if lower.Mount != nil && v.o.Users == nil {
			o.Lowers[i], err = r.layer(lower)
		} else {
			o.Lowers[i], err = v.lower(r, i)
		}
		if err != nil {
			return o, err
		}
	}
	if v.top == nil {
		return o, nil
	}
	at, err := v.enter(r, v.top)
	o.Upper, o.Work = filepath.Join(at, v.upper), filepath.Join(at, v.work)
	return o, err
}

// lower is the layer of that number by a mount that is there for this overlay only.
func (v *visit) lower(r *room, i int) (Lower, error) {
	lower := v.o.Lowers[i]
	if lower.Mount != nil {
		mapped, err := r.bind(lower, 0, v.o.Users)
		if err != nil {
			return Lower{}, err
		}
		v.lowers[i] = mapped
	}
	at, err := v.enter(r, v.lowers[i])
	if err != nil {
		return Lower{}, fmt.Errorf("layer %s: %w", lower.Path, err)
	}
	return Lower{Path: at}, nil
}

func (v *visit) enter(r *room, mount *os.File) (at string, err error) {
	at, err = r.attach(mount)
	if err == nil {
		v.visitors = append(v.visitors, at)
	}
	return at, err
}

// within tells whether a path is below a directory.
func within(dir, path string) bool {
	below, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(below)
}

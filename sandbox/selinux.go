package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/berth-runtime/berth/oci/selinux"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// seLinux is the kernel's SELinux (*selinux.Host).
type seLinux interface {
	Pod(asked selinux.Options) (selinux.Labels, error)
	Keep(l selinux.Labels)
	Release(l selinux.Labels)
	Container(pod selinux.Labels, asked selinux.Options) (selinux.Labels, error)
	// These two change files of the host, and nothing where those can't be labelled.
	SetLabel(path, label string) error
	Relabel(path, label string) error // and all below it
}

// noSELinux is that of a node whose configuration wants none.
type noSELinux struct{}

func (noSELinux) Pod(selinux.Options) (selinux.Labels, error) { return selinux.Labels{}, nil }
func (noSELinux) Keep(selinux.Labels)                         {}
func (noSELinux) Release(selinux.Labels)                      {}
func (noSELinux) Container(selinux.Labels, selinux.Options) (selinux.Labels, error) {
	return selinux.Labels{}, nil
}
func (noSELinux) SetLabel(string, string) error { return nil }
func (noSELinux) Relabel(string, string) error  { return nil }

func newSELinux(on bool) seLinux {
	if on {
		return &selinux.Host{}
	}
	return noSELinux{}
}

const selinuxField = "linux.security_context.selinux_options"

// podLabels are those of a new pod; forgetPod gives them back.
func (b *base) podLabels(config *spec.Pod) (selinux.Labels, error) {
	l, err := b.selinux.Pod(labelOptions(config.Security.SELinux))
	return l, badLabel(config.Security.SELinux, err)
}

// containerLabels are the pod's, with what the container asks for. The processes of a privileged container have
// none, which leaves it to the policy what they become of the runtime's own (spc_t, where it is made for
// containers), unless the container itself names a type.
func (b *base) containerLabels(p *pod, config *spec.Container) (selinux.Labels, error) {
	asked := config.Security.SELinux
	l, err := b.selinux.Container(p.labels, labelOptions(asked))
	if config.Security.Privileged && (asked == nil || asked.Type == "") {
		l.Process = ""
	}
	return l, badLabel(asked, err)
}

func labelOptions(asked *spec.SELinux) selinux.Options {
	if asked == nil {
		return selinux.Options{}
	}
	return selinux.Options{User: asked.User, Role: asked.Role, Type: asked.Type, Level: asked.Level}
}

// badLabel says that the client asked for what the policy doesn't have.
func badLabel(asked *spec.SELinux, err error) error {
	if asked != nil && (errors.Is(err, selinux.ErrRefused) || errors.Is(err, selinux.ErrNoContainers)) {
		return &spec.FieldError{Field: selinuxField, Value: fmt.Sprintf("%+v", *asked), Rule: err.Error()}
	}
	return err
}

// labelPodFile lets the pod's containers use a file that berth wrote for them.
func (b *base) labelPodFile(p *pod, name string) error {
	if p.labels.File == "" {
		return nil
	}
	return b.selinux.SetLabel(filepath.Join(b.cfg.podFiles(p.id), name), p.labels.File)
}

// relabel lets a container use its volumes: those that the client asks it for (selinux_relabel), and what was
// copied from its image.
func (b *base) relabel(c *container) error {
	l, err := b.containerLabels(c.pod, c.config)
	if err != nil || l.File == "" {
		return err
	}
	for i, v := range c.config.Mounts {
		if !v.SELinuxRelabel || v.Image != nil {
			continue
		}
		if err := b.selinux.Relabel(v.HostPath, l.File); err != nil {
			return relabelError(i, v.HostPath, err)
		}
	}
	for i := range spec.DeclaredVolumes(&c.record.Image.Config, c.config.Mounts) {
		if err := b.selinux.Relabel(b.parts.Images.VolumePath(c.id, i), l.File); err != nil {
			return err
		}
	}
	return nil
}

// relabelError is the client's where it asks for what is never done.
func relabelError(i int, path string, err error) error {
	if errors.Is(err, selinux.ErrSystemDirectory) {
		return &spec.FieldError{Field: fmt.Sprintf("mounts[%d].selinux_relabel", i), Value: path, Rule: err.Error()}
	}
	return fmt.Errorf("volume %s: %w", path, err)
}

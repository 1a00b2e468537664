package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/oci/apparmor"
	"github.com/berth-runtime/berth/oci/seccomp"
	"github.com/berth-runtime/berth/sandbox/spec"
	"github.com/berth-runtime/berth/sandbox/spec/cdi"
	"github.com/berth-runtime/berth/sandbox/spec/hostdev"
)

// specBuilder makes containers' Specs of all that is known of them.
type specBuilder struct {
	*base
	profiles profiles
	appArmor *appArmor
}

func newSpecBuilder(b *base) *specBuilder {
	return &specBuilder{base: b, appArmor: newAppArmor(apparmor.Host{}, b.cfg.AppArmorProfile, b.log)}
}

// buildSpec makes a container's Spec from its record and its pod.
func (sb *specBuilder) buildSpec(p *pod, rec *containerRecord) (*specs.Spec, error) {
	dir := sb.cfg.podFiles(p.id)
	in := spec.Input{
		Pod: p.config, PodID: p.id, Container: rec.Config, ContainerID: rec.ID,
		Image: &rec.Image.Config, Edits: rec.Edits, User: *rec.User, Node: sb.node(), CgroupPath: rec.Cgroup,
		ResolvConf: filepath.Join(dir, resolvConfFile),
		Hostname:   filepath.Join(dir, hostnameFile),
		Hosts:      filepath.Join(dir, hostsFile),
	}
	for i := range spec.DeclaredVolumes(in.Image, rec.Config.Mounts) {
		in.VolumePaths = append(in.VolumePaths, sb.parts.Images.VolumePath(rec.ID, i))
	}
	err := findDevices(&in, rec)
	if err != nil {
		return nil, err
	}
	if in.AppArmorProfile, err = sb.appArmor.choose(rec.Config.Security.AppArmor, rec.Config.Security.Privileged); err != nil {
		return nil, err
	}
	labels, err := sb.containerLabels(p, rec.Config)
	if err != nil {
		return nil, err
	}
	in.ProcessLabel, in.MountLabel = labels.Process, labels.File
	out, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	switch {
	case rec.Config.Security.Privileged:
	case rec.Seccomp != nil:
		out.Linux.Seccomp = rec.Seccomp
	default:
		out.Linux.Seccomp, err = sb.profiles.choose(rec.Config.Security.Seccomp, out.Process.Capabilities)
	}
	if err == nil && len(rec.Adjustment) > 0 && sb.parts.Plugins != nil {
		err = sb.parts.Plugins.Apply(rec.Adjustment, out)
	}
	return out, err
}

// findDevices looks up the host's devices that a container is to have. One that was started has its nodes, also of
// those that are gone from the host, and that its Spec then doesn't show.
func findDevices(in *spec.Input, rec *containerRecord) (err error) {
	if rec.Config.Security.Privileged {
		if in.HostDevices, err = hostdev.All(); err != nil {
			return err
		}
	}
	switch rec.State {
	case containerCreating, ContainerCreated, containerStarting:
		if in.Devices, err = hostdev.Lookup(rec.Config.Devices); err != nil {
			return &spec.FieldError{Field: "devices", Value: deviceNames(rec.Config.Devices), Rule: err.Error()}
		}
	default:
		for _, d := range rec.Config.Devices {
			if found, err := hostdev.Lookup([]spec.Device{d}); err == nil {
				in.Devices = append(in.Devices, found...)
			}
		}
	}
	return nil
}

// cdiEdits are what the container's CDI devices add; nil when it asks for none.
func (sb *specBuilder) cdiEdits(p *pod, config *spec.Container) (*specs.Spec, error) {
	names, err := cdi.Names(config)
	if err == nil && len(names) == 0 {
		return nil, nil
	}
	var edits *specs.Spec
	if err == nil {
		edits, err = cdi.Resolve(sb.cfg.CDISpecDirs, names, p.config.Security.Namespaces.OwnUser() != nil)
	}
	if err != nil {
		return nil, &spec.FieldError{Field: "CDI_devices", Value: strings.Join(names, ", "), Rule: err.Error()}
	}
	return edits, nil
}

// specOf is a container's Spec. That of one that was started, which few ask for, or that an earlier daemon created, is
// built again, from the same values.
func (sb *specBuilder) specOf(c *container) (*specs.Spec, error) {
	c.pod.mu.Lock()
	built, rec := c.spec, c.record
	c.pod.mu.Unlock()
	if built != nil {
		return built, nil
	}
	built, err := sb.buildSpec(c.pod, &rec)
	if err != nil {
		return nil, err
	}
	c.pod.mu.Lock()
	if c.record.Config == rec.Config { // not updated meanwhile
		c.spec = built
	}
	c.pod.mu.Unlock()
	return built, nil
}

// node is what all containers of the node get.
func (sb *specBuilder) node() spec.Node {
	name, _ := os.Hostname()                  // what can't be read is left out of the environment
	limits, _ := parseRlimits(sb.cfg.Rlimits) // Validate has seen them
	return spec.Node{Hostname: name, PidsLimit: sb.cfg.PidsLimit, Rlimits: limits}
}

func deviceNames(devices []spec.Device) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.HostPath)
	}
	return strings.Join(names, ", ")
}

// profiles gives seccomp profiles. Containers with equal capabilities share the
// default one, which nobody may change.
type profiles struct {
	mu       sync.Mutex
	defaults map[string]*specs.LinuxSeccomp // by capabilities
}

// choose is the profile that the client asked for; nil: unconfined.
func (f *profiles) choose(asked *spec.SecurityProfile, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	var bounding []string
	if caps != nil {
		bounding = caps.Bounding
	}
	switch {
	case asked == nil || asked.Kind == spec.ProfileUnconfined:
		return nil, nil
	case asked.Kind == spec.ProfileRuntimeDefault:
		return f.standard(bounding)
	}
	text, err := os.ReadFile(asked.Localhost)
	if err != nil {
		return nil, badProfile("seccomp", asked, err.Error())
	}
	profile, err := seccomp.Load(text, bounding)
	if err == nil {
		_, err = seccomp.Compile(profile) // so that the start finds it compiled, and its mistakes are told now
	}
	if err != nil {
		return nil, badProfile("seccomp", asked, err.Error())
	}
	return profile, nil
}

func (f *profiles) standard(caps []string) (*specs.LinuxSeccomp, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := strings.Join(caps, " ")
	if p, ok := f.defaults[key]; ok {
		return p, nil
	}
	p, err := seccomp.Default(caps)
	if err != nil {
		return nil, fmt.Errorf("make default seccomp profile: %w", err)
	}
	const most = 256 // clients choose the keys
	if f.defaults == nil || len(f.defaults) >= most {
		f.defaults = map[string]*specs.LinuxSeccomp{}
	}
	f.defaults[key] = p
	return p, nil
}

func badProfile(kind string, asked *spec.SecurityProfile, rule string) error {
	return &spec.FieldError{Field: "linux.security_context." + kind + ".localhost_ref", Value: asked.Localhost, Rule: rule}
}

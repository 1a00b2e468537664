package spec

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultPath is what a container's PATH is when neither image nor client sets
// one, as in every other runtime.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// buildProcess makes the container's first process.
func buildProcess(in Input) (*specs.Process, error) {
	c := in.Container
	image := in.Image
	if image == nil {
		image = &ocispec.ImageConfig{}
	}
	args, err := arguments(c, image)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(c.Security, in.Node)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal:        c.TTY,
		Args:            args,
		Env:             environment(in, image),
		Cwd:             workingDir(c, image),
		User:            specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: slices.Clone(in.User.Groups)},
		Capabilities:    caps,
		Rlimits:         slices.Clone(in.Node.Rlimits),
		NoNewPrivileges: c.Security.NoNewPrivs,
		SelinuxLabel:    in.ProcessLabel,
		ApparmorProfile: in.AppArmorProfile,
	}
	score := 0
	if c.Resources != nil {
		score = int(c.Resources.OOMScoreAdj)
	}
	p.OOMScoreAdj = &score
	return p, nil
}

// arguments is what is executed. CRI's command is the image's Entrypoint and
// its args the image's Cmd; an own command drops the image's Cmd too, as the
// two were written for each other.
func arguments(c *Container, image *ocispec.ImageConfig) ([]string, error) {
	command, args := c.Command, c.Args
	if len(command) == 0 {
		command = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	all := slices.Concat(command, args)
	if len(all) == 0 || all[0] == "" {
		return nil, ErrNoCommand
	}
	return all, nil
}

// workingDir is the client's, the image's, or the root.
func workingDir(c *Container, image *ocispec.ImageConfig) string {
	switch {
	case c.WorkingDir != "":
		return c.WorkingDir
	case strings.HasPrefix(image.WorkingDir, "/"):
		return image.WorkingDir
	default:
		return "/" + image.WorkingDir
	}
}

// environment is, later ones winning: what every container has, the image's,
// the client's. No key comes twice: which of two a program sees is its libc's whim.
func environment(in Input, image *ocispec.ImageConfig) []string {
	c := in.Container
	env := make(envList, 0, len(image.Env)+len(c.Envs)+4)
	env.set("PATH", defaultPath)
	if name := hostname(in); name != "" {
		env.set("HOSTNAME", name)
	}
	if c.TTY {
		env.set("TERM", "xterm")
	}
	for _, e := range image.Env {
		if key, value, ok := strings.Cut(e, "="); ok && validEnvKey(key) && !strings.ContainsRune(value, 0) {
			env.set(key, value)
		}
	}
	for _, e := range c.Envs {
		env.set(e.Key, string(e.Value))
	}
	if in.User.Home != "" && env.get("HOME") == "" {
		env.set("HOME", in.User.Home)
	} else if env.get("HOME") == "" {
		env.set("HOME", "/")
	}
	return env
}

// hostname is the name that the container's processes see by uname(2).
func hostname(in Input) string {
	if in.Pod.Hostname == "" || in.Pod.Security.Namespaces.Network == NamespaceNode && in.Node.Hostname != "" {
		return in.Node.Hostname
	}
	return in.Pod.Hostname
}

// envList is an environment in the order of first mention.
type envList []string

func (l envList) index(key string) int {
	return slices.IndexFunc(l, func(e string) bool {
		return len(e) > len(key) && e[len(key)] == '=' && e[:len(key)] == key
	})
}

func (l *envList) set(key, value string) {
	entry := key + "=" + value
	if i := l.index(key); i >= 0 {
		(*l)[i] = entry
		return
	}
	*l = append(*l, entry)
}

func (l envList) get(key string) string {
	if i := l.index(key); i >= 0 {
		return l[i][len(key)+1:]
	}
	return ""
}

// ExecProcess is the process of an exec of cmd in a container that was built as
// container: its user, capabilities, environment and limits, with cmd as Args.
// The container's Spec stays as it is.
func ExecProcess(container *specs.Spec, cmd []string, tty bool) *specs.Process {
	p := *container.Process
	p.Args = slices.Clone(cmd)
	p.Terminal = tty
	p.ConsoleSize = nil
	p.Env = slices.Clone(p.Env)
	if env := envList(p.Env); tty && env.index("TERM") < 0 {
		env.set("TERM", "xterm")
		p.Env = env
	}
	return &p
}

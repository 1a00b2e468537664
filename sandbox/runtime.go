package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-runtime/berth/oci"
	"github.com/berth-runtime/berth/oci/launch"
	"github.com/berth-runtime/berth/sandbox/keeper"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// Handler is the name of the handler that is berth's own executor; the empty name means it too.
const Handler = "berth"

// Runtime is another OCI runtime (runc, crun, runsc), which a RuntimeClass chooses by the name that it has in
// Config.Runtimes. It makes the containers' first processes and execs; their pod, their root file system,
// their cgroup, their output and their ends are berth's as with its own.
type Runtime struct {
	Path    string   `toml:"path"`    // of the program
	Type    string   `toml:"type"`    // "oci", which is also the default: the command line that runc has
	Options []string `toml:"options"` // before the command: "--systrap", "--debug"
}

// RFC 1123's label, as RuntimeClass.handler has to be.
var handlerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ValidateRuntimes returns every mistake in the table of runtimes, each named by its key.
func ValidateRuntimes(runtimes map[string]Runtime) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		r := runtimes[name]
		wrong := func(key string, value any, rule string) {
			errs = append(errs, fmt.Errorf("%s.%s %q: %s", name, key, value, rule))
		}
		if !handlerName.MatchString(name) || name == Handler {
			errs = append(errs, fmt.Errorf("%s: the name must be a lower-case DNS label, and not %q", name, Handler))
		}
		if st, err := os.Stat(r.Path); !filepath.IsAbs(r.Path) {
			wrong("path", r.Path, "must be an absolute path")
		} else if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			wrong("path", r.Path, "must be an executable file")
		}
		if r.Type != "" && r.Type != "oci" {
			wrong("type", r.Type, `must be "oci"`)
		}
	}
	return errors.Join(errs...)
}

// Features are what a runtime says of itself by its features command (runtime-spec, features.md); the zero
// value is what one without that command gets. User namespaces are not among them: berth makes those of
// pods, and gives other runtimes none.
type Features struct{ RecursiveReadOnly bool }

// runtimeEnv is the environment of runtimes' commands.
var runtimeEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// Features asks the program.
func (r Runtime) Features(ctx context.Context) (Features, error) {
	c := exec.CommandContext(ctx, r.Path, append(slices.Clone(r.Options), "features")...)
	c.Env = runtimeEnv
	text, err := c.Output()
	if err != nil {
		return Features{}, fmt.Errorf("ask %s for its features: %w", r.Path, err)
	}
	var said struct {
		MountOptions []string `json:"mountOptions"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return Features{}, fmt.Errorf("read features of %s: %w", r.Path, err)
	}
	var f Features
	for _, o := range said.MountOptions {
		f.RecursiveReadOnly = f.RecursiveReadOnly || o == "rro"
	}
	return f, nil
}

// runtimes are those that aren't berth's own.
type runtimes struct {
	*base
	builder  *specBuilder
	programs *keptPrograms
}

// foreign is a runtime that isn't berth's own, at work.
type foreign struct {
	runtimes *runtimes
	name     string
	Runtime
}

// foreignOf returns the runtime of a pod's containers, nil for berth's own. A pod whose handler is not
// configured any more is an error: its containers must not be made by another.
func (rt *runtimes) foreignOf(p *pod) (*foreign, error) {
	name := p.config.RuntimeHandler
	if name == "" || name == Handler {
		return nil, nil
	}
	r, ok := rt.cfg.Runtimes[name]
	if !ok {
		return nil, fmt.Errorf("runtime handler %q of pod %s is not configured any more: %w", name, p.id, ErrState)
	}
	return &foreign{rt, name, r}, nil
}

// checkRuntime is what is known to be wrong with a pod's handler before anything is done.
func (rt *runtimes) checkRuntime(config *spec.Pod) error {
	name := config.RuntimeHandler
	if name == "" || name == Handler {
		return nil
	}
	if _, ok := rt.cfg.Runtimes[name]; !ok {
		return &spec.FieldError{Field: "runtime_handler", Value: name, Rule: "is no runtime handler of this node"}
	}
	if config.Security.Namespaces.OwnUser() != nil {
		return &spec.FieldError{Field: "linux.security_context.namespace_options.userns_options.mode", Value: "POD",
			Rule: fmt.Sprintf("is not possible with runtime handler %q", name)}
	}
	return nil
}

// root is where the runtime keeps its state, which ends with the boot as containers do.
func (f *foreign) root() string { return filepath.Join(f.runtimes.cfg.State, "runtimes", f.name) }

// bundle is the directory of a container's config.json, and of what the runtime's commands leave.
func (f *foreign) bundle(c *container) string {
	return filepath.Join(f.runtimes.cfg.podFiles(c.pod.id), "bundles", c.id)
}

// command is one call of the runtime. The keeper executes it, so that what it leaves behind is the keeper's
// child (PR_SET_CHILD_SUBREAPER).
type command struct {
	key  string // the keeper's; run gives it one
	args []string
	log  string // the file for its own words; it must not exist
	oci.Command
}

// runtimeKey is the key of one call of a command: whoever calls again never meets a call that has not ended yet.
func runtimeKey(name string) string { return runtimeKeys + name + "-" + newID() }

// runtimeKeys begins the keys of runtimes' commands.
const runtimeKeys = "runtime-"

// launch begins a call.
func (f *foreign) launch(ctx context.Context, c command, note *launchNote) (*process, error) {
	own := []string{f.Path}
	own = append(own, f.Options...)
	own = append(own, "--root="+f.root(), "--log="+c.log, "--log-format=json")
	c.Args = append(own, c.args...)
	c.Env = runtimeEnv
	l, err := f.runtimes.parts.Programs.PrepareCommand(c.Command)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ordered := launch.Now()
	proc, err := f.runtimes.parts.Keeper.Launch(ctx, keeper.Launch{Key: c.key, Program: l.Program, Files: l.Files, Oneshot: true, Timed: note != nil})
	err = l.Explain(err)
	f.runtimes.programs.keepProgram(note, l, ordered, proc, err)
	if err != nil {
		return nil, err
	}
	return newProcess(proc.PID, proc.PidFD), nil
}

// run makes a call and waits for its end. Of one that fails the error has the runtime's own words; one that
// takes longer than ctx is dead, with all that it made, when run returns.
func (f *foreign) run(ctx context.Context, c command, note *launchNote) error {
	var said *collector
	if c.Stderr == nil {
		var end *os.File
		var err error
		if said, end, err = collect(); err != nil {
			return err
		}
		defer said.close()
		defer end.Close()
		c.Stderr = end
	}
	c.key = runtimeKey(c.args[0])
	proc, err := f.launch(ctx, c, note)
	if err != nil {
		return fmt.Errorf("%s %s: %w", f.name, c.args[0], err)
	}
	defer proc.release()
	if said != nil {
		c.Stderr.Close()
	}
	exit, err := f.runtimes.parts.Keeper.Wait(ctx, c.key)
	if err != nil {
		return errors.Join(fmt.Errorf("%s %s: %w", f.name, c.args[0], errors.Join(context.Cause(ctx), err)), proc.killTree(ctx))
	}
	if exit.Known && exit.Status == 0 {
		return nil
	}
	words := f.words(c.log)
	if words == "" && said != nil {
		words = strings.TrimSpace(string(said.drain()))
	}
	if words == "" {
		words = fmt.Sprintf("it ended with status %#x and said nothing", exit.Status)
	}
	return fmt.Errorf("%s %s: %s", f.name, c.args[0], words)
}

// words are the last error in a runtime's log; "" when there is none.
func (f *foreign) words(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	last := ""
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return last
}

// start makes and starts a container by the runtime: create, whose orphan the keeper adopts with the
// container's streams, then start.
func (f *foreign) start(ctx context.Context, s *start, in oci.Container, out keeper.Launch) error {
	if err := f.delete(ctx, s.c); err != nil { // a first attempt's
		return err
	}
	mounts, err := f.layOut(s, in)
	if err != nil {
		return err
	}
	dir := f.bundle(s.c)
	create := command{
		log:     filepath.Join(dir, "create.log"),
		args:    []string{"create", "--bundle=" + dir, "--pid-file=" + filepath.Join(dir, "pid")},
		Command: oci.Command{Stdin: in.Stdin, Stdout: in.Stdout, Stderr: in.Stderr, Mounts: mounts},
	}
	var terminal *console
	if s.c.config.TTY {
		if terminal, err = listenConsole(dir); err != nil {
			return err
		}
		defer terminal.close()
		create.args = append(create.args, "--console-socket="+terminal.path())
	}
	create.args = append(create.args, s.c.id)
	created := s.tx.watch.lap(f.name + " create")
	err = f.run(ctx, create, s.note())
	created()
	err = errors.Join(err, s.c.closeRoot())
	if err != nil {
		return err
	}
	if terminal != nil {
		t, err := terminal.receive()
		if err != nil {
			return fmt.Errorf("%s create: %w", f.name, err)
		}
		s.readTerminal(t, &out)
	}
	proc, err := openProcess(filepath.Join(dir, "pid"))
	if err != nil {
		return fmt.Errorf("%s create: %w", f.name, err)
	}
	if err := f.runtimes.parts.Keeper.Adopt(ctx, out, proc); err != nil {
		proc.PidFD.Close()
		return err
	}
	s.process = newProcess(proc.PID, proc.PidFD)
	defer s.tx.watch.lap(f.name + " start")()
	return f.run(ctx, command{args: []string{"start", s.c.id}, log: filepath.Join(dir, "start.log")}, nil)
}

// openProcess opens the process whose number a runtime wrote to a file.
func openProcess(pidFile string) (*keeper.Process, error) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 2 {
		return nil, fmt.Errorf("%s has no process: %q", pidFile, text)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &keeper.Process{PID: pid, PidFD: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// signal has the runtime send a signal: what of its processes is to get it, the runtime knows.
func (f *foreign) signal(ctx context.Context, c *container, sig unix.Signal) error {
	log := filepath.Join(f.bundle(c), "kill.log")
	return f.run(ctx, command{args: []string{"kill", c.id, strconv.Itoa(int(sig))}, log: log}, nil)
}

// delete has the runtime forget a container, and kill it if it runs. It is content when there is none.
func (f *foreign) delete(ctx context.Context, c *container) error {
	c.deleting.Lock() // its end and its removal both want it
	defer c.deleting.Unlock()
	dir := f.bundle(c)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	log := filepath.Join(dir, "delete.log")
	if err := f.run(ctx, command{args: []string{"delete", "--force", c.id}, log: log}, nil); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove bundle: %w", err)
	}
	return nil
}

// deleteForeign is delete for the runtime of a container's pod. Of one that is not configured any more
// nobody knows how to; its processes end with the cgroup.
func (rt *runtimes) deleteForeign(ctx context.Context, c *container) error {
	f, err := rt.foreignOf(c.pod)
	if f == nil || err != nil {
		return nil
	}
	return f.delete(ctx, c)
}

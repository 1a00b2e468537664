package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-runtime/berth/cni/plugin"
	"github.com/berth-runtime/berth/cni/plugin/link"
)

// inProcess marks what FindInPath returns for a plugin that runs here.
const inProcess = "in-process:"

// Errors of plugins as a whole.
var (
	ErrPluginMissing = errors.New("plugin not found")
	ErrPluginTimeout = errors.New("plugin did not finish in time")
	ErrPluginOutput  = errors.New("plugin's output is no CNI result")
	errNoNamespace   = errors.New("the pod's network namespace is gone")
)

// executor is libcni's invoke.Exec for the calls of one attachment: plugins that we have run here, all others as processes.
type executor struct {
	version.PluginDecoder
	plugins map[string]plugin.Plugin
	pod     *link.Space // nil when the namespace is gone

	checked *network     // what ready has found right, nil when nothing has
	commit  func() error // called before a process, which may look for what was held back until then; nil when nothing is
}

var _ invoke.Exec = (*executor)(nil)

// FindInPath finds a plugin by its type.
func (e *executor) FindInPath(name string, paths []string) (string, error) {
	if _, ok := e.plugins[name]; ok {
		return inProcess + name, nil
	}
	return findBinary(name, paths)
}

func findBinary(name string, paths []string) (string, error) {
	path, err := invoke.FindInPath(name, paths)
	if err != nil {
		return "", fmt.Errorf("%w: %s in %s", ErrPluginMissing, name, strings.Join(paths, ", "))
	}
	return path, nil
}

// ExecPlugin runs a plugin. environ holds what the CNI specification passes in the environment.
func (e *executor) ExecPlugin(ctx context.Context, path string, config []byte, environ []string) ([]byte, error) {
	name, here := strings.CutPrefix(path, inProcess)
	if !here {
		return e.process(ctx, path, config, environ)
	}
	if err := e.supports(name, config); err != nil {
		path, missing := findBinary(name, splitPath(getenv(environ, "CNI_PATH")))
		if missing != nil {
			return nil, errors.Join(err, missing)
		}
		return e.process(ctx, path, config, environ)
	}
	command := getenv(environ, "CNI_COMMAND")
	if command == "VERSION" {
		return json.Marshal(version.All)
	}
	as, err := e.version(config)
	if err != nil {
		return nil, err
	}
	result, err := e.here(ctx, name, command, config, environ)
	if err != nil && command == "CHECK" {
		err = fmt.Errorf("plugin %s: %w", name, err) // libcni says so of other commands
	}
	if err != nil || result == nil {
		return nil, err
	}
	result.CNIVersion = types100.ImplementedSpecVersion
	converted, err := result.GetAsVersion(as)
	if err != nil {
		return nil, err
	}
	return json.Marshal(converted)
}

func (e *executor) process(ctx context.Context, path string, config []byte, environ []string) ([]byte, error) {
	if e.commit != nil {
		if err := e.commit(); err != nil {
			return nil, err
		}
	}
	return runProcess(ctx, path, config, environ)
}

// supports is nil when the plugin of ours understands the configuration.
func (e *executor) supports(name string, config []byte) error {
	if e.checked != nil && e.checked.foreign[name] == nil {
		return nil
	}
	return e.plugins[name].Supports(config)
}

// version is the version of the specification that a configuration is written in.
func (e *executor) version(config []byte) (string, error) {
	if e.checked != nil {
		return e.checked.list.CNIVersion, nil
	}
	return confVersion(config)
}

// here runs a plugin in this process. The result is nil but for ADD.
func (e *executor) here(ctx context.Context, name, command string, config []byte, environ []string) (*types100.Result, error) {
	call := &plugin.Call{
		Container: getenv(environ, "CNI_CONTAINERID"),
		IfName:    getenv(environ, "CNI_IFNAME"),
		Args:      getenv(environ, "CNI_ARGS"),
		NetNS:     getenv(environ, "CNI_NETNS"),
		Config:    config,
		Pod:       e.pod,
		IPAM: func(ctx context.Context, command, name string) (*types100.Result, error) {
			return e.delegate(ctx, command, name, config, environ)
		},
		Process: func(name string) bool { return !e.runsHere(name, config) },
	}
	if e.pod == nil && (command == "ADD" || command == "CHECK") {
		return nil, errNoNamespace
	}
	return run(ctx, e.plugins[name], command, call)
}

func run(ctx context.Context, p plugin.Plugin, command string, call *plugin.Call) (*types100.Result, error) {
	switch command {
	case "ADD":
		return p.Add(ctx, call)
	case "CHECK":
		return nil, p.Check(ctx, call)
	case "DEL":
		return nil, p.Del(ctx, call)
	case "STATUS":
		return nil, p.Status(ctx, call)
	case "GC":
		conf := types.PluginConf{}
		if err := plugin.Decode(call.Config, &conf); err != nil {
			return nil, err
		}
		return nil, p.GC(ctx, call, conf.ValidAttachments)
	}
	return nil, fmt.Errorf("CNI_COMMAND: %q is not a command", command)
}

// runsHere says whether the plugin that another one names is ours.
func (e *executor) runsHere(name string, config []byte) bool {
	_, ours := e.plugins[name]
	return ours && e.supports(name, config) == nil
}

// delegate runs the plugin that another one names, with the same configuration (CNI specification, section 4).
func (e *executor) delegate(ctx context.Context, command, name string, config []byte, environ []string) (*types100.Result, error) {
	if e.runsHere(name, config) {
		return e.here(ctx, name, command, config, environ)
	}
	path, err := findBinary(name, splitPath(getenv(environ, "CNI_PATH")))
	if err != nil {
		return nil, err
	}
	env := environment{environ, command}
	if command != "ADD" {
		return nil, invoke.ExecPluginWithoutResult(ctx, path, config, env, e)
	}
	result, err := invoke.ExecPluginWithResult(ctx, path, config, env, e)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(result)
}

// environment is that of a call with another command.
type environment struct {
	environ []string
	command string
}

// AsEnv implements invoke.CNIArgs.
func (e environment) AsEnv() []string {
	out := make([]string, 0, len(e.environ))
	for _, kv := range e.environ {
		if !strings.HasPrefix(kv, "CNI_COMMAND=") {
			out = append(out, kv)
		}
	}
	return append(out, "CNI_COMMAND="+e.command)
}

// getenv returns the last value of a variable, which is the one that a process would see.
func getenv(environ []string, name string) string {
	for _, kv := range slices.Backward(environ) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

func splitPath(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ":")
}

package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-runtime/berth/cni/plugin/link"
)

// Plugin runs the commands of the CNI specification. Implementations are safe for concurrent use.
type Plugin interface {
	// Supports is nil when the plugin understands everything that the configuration asks for. A configuration that it does not
	// support is a matter for the reference plugin.
	Supports(config []byte) error
	// Add attaches the container. After an error the caller runs Del.
	Add(ctx context.Context, c *Call) (*types100.Result, error)
	// Check says what of an attachment is no longer there.
	Check(ctx context.Context, c *Call) error
	// Del releases everything that an Add with the same container and interface took. It may be called any number of times.
	Del(ctx context.Context, c *Call) error
	// Status says why an Add would fail now.
	Status(ctx context.Context, c *Call) error
	// GC releases what attachments hold that are not valid.
	GC(ctx context.Context, c *Call, valid []types.GCAttachment) error
}

// Call is one call of a plugin. Container, IfName and Pod are empty for Status and GC.
type Call struct {
	Container string
	IfName    string
	Args      string // CNI_ARGS
	NetNS     string // path of the container's namespace, "" for a Del after its end
	Config    []byte // the plugin's configuration as libcni made it

	Pod *link.Space // the namespace, opened; nil when it is gone. Owned by the caller

	// IPAM runs the plugin that the configuration names as ipam.type, with the same arguments; the result is nil but for ADD.
	IPAM func(ctx context.Context, command, name string) (*types100.Result, error)
	// Process says whether that is a process. Nil is for never.
	Process func(name string) bool
}

// KeyError is a mistake in the configuration: which key, and what is wrong with it.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap gives what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// Keyf makes a KeyError.
func Keyf(key, format string, args ...any) error {
	return &KeyError{Key: key, Err: fmt.Errorf(format, args...)}
}

// Decode reads a configuration. A value of the wrong type is a KeyError.
func Decode(config []byte, into any) error {
	err := json.Unmarshal(config, into)
	if bad, ok := err.(*json.UnmarshalTypeError); ok && bad.Field != "" {
		return Keyf(bad.Field, "a %s cannot be a %s", bad.Value, bad.Type)
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return nil
}

// Previous returns the result of the plugins that ran before in the chain, nil when there was none.
func Previous(config []byte) (*types100.Result, error) {
	conf := struct {
		Version string          `json:"cniVersion"`
		Result  json.RawMessage `json:"prevResult"`
	}{}
	if err := Decode(config, &conf); err != nil {
		return nil, err
	}
	if len(conf.Result) == 0 || string(conf.Result) == "null" {
		return nil, nil
	}
	previous, err := version.NewResult(conf.Version, conf.Result)
	if err != nil {
		return nil, Keyf("prevResult", "%w", err)
	}
	result, err := types100.NewResultFromResult(previous)
	if err != nil {
		return nil, Keyf("prevResult", "%w", err)
	}
	return result, nil
}

// Arg returns the value of a key of CNI_ARGS, "" when it is not there. The keys of others are none of the plugin's business:
// every runtime sends IgnoreUnknown.
func (c *Call) Arg(key string) string {
	for pair := range strings.SplitSeq(c.Args, ";") {
		if k, v, ok := strings.Cut(pair, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// Owner names the attachment in what outlives the call, such as the comments of nf_tables elements.
func (c *Call) Owner() string { return Owner(c.Container, c.IfName) }

// Owner names an attachment.
func Owner(container, ifName string) string { return container + "/" + ifName }

// Valid is a set of the attachments' owners.
func Valid(list []types.GCAttachment) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, a := range list {
		out[Owner(a.ContainerID, a.IfName)] = true
	}
	return out
}

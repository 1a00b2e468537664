package sandbox

import (
	"context"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-runtime/berth/sandbox/spec"
)

// UserNamespaces says why pods can't have user namespaces on this node, nil when they can: it makes one, and
// mounts something of the image store in it. That it works is remembered; that it doesn't is tried again,
// as an administrator may mend it (user.max_user_namespaces).
func (ns *namespaces) UserNamespaces(ctx context.Context) error {
	if ns.users.Load() {
		return nil
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 16, Size: 1 << 16}}
	users, err := ns.userNamespace(ctx, ids, ids)
	if err != nil {
		return fmt.Errorf("make a user namespace: %w", err)
	}
	defer users.Close()
	if err := ns.parts.Images.CheckMapping(users); err != nil {
		return err
	}
	ns.users.Store(true)
	return nil
}

// checkUsers refuses a pod that wants a user namespace which it could not have.
func (ns *namespaces) checkUsers(ctx context.Context, config *spec.Pod) error {
	if config.Security.Namespaces.OwnUser() == nil {
		return nil
	}
	if err := ns.UserNamespaces(ctx); err != nil {
		return &spec.FieldError{Field: "linux.security_context.namespace_options.userns_options.mode", Value: "POD", Rule: "this node has no user namespaces: " + err.Error()}
	}
	return nil
}

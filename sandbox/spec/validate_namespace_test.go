package spec

import (
	"errors"
	"strings"
	"testing"
)

// TestNamespacesOfContainerAndPod: what a container may ask for depends on what its pod was made with.
func TestNamespacesOfContainerAndPod(t *testing.T) {
	pods := map[string]Namespaces{
		"POD": {}, "CONTAINER": {PID: NamespaceContainer}, "NODE": {PID: NamespaceNode},
		"users": {PID: NamespaceContainer, User: userNamespace()},
	}
	const pid, users = "namespace_options.pid", "must not be NODE in a user namespace"
	for _, c := range []struct {
		pod         string
		container   NamespaceMode
		field, rule string
	}{
		{"POD", NamespacePod, "", ""},
		{"POD", NamespaceContainer, "", ""},
		{"POD", NamespaceNode, "", ""},
		{"CONTAINER", NamespacePod, pid, "made with pid CONTAINER"},
		{"CONTAINER", NamespaceContainer, "", ""},
		{"NODE", NamespacePod, pid, "made with pid NODE"},
		{"NODE", NamespaceNode, "", ""},
		{"users", NamespaceContainer, "", ""},
		{"users", NamespaceNode, pid, users},
	} {
		pod, container := goodPod(), goodContainer()
		pod.Security.Namespaces = pods[c.pod]
		container.Security.Namespaces.PID = c.container
		err := container.Validate(pod)
		var field *FieldError
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%q in a pod with %s: %v", c.container, c.pod, err)
		case c.field != "" && (!errors.As(err, &field) || !strings.HasSuffix(field.Field, c.field) || !strings.Contains(field.Rule, c.rule)):
			t.Errorf("%q in a pod with %s: %v, want %s: %s", c.container, c.pod, err, c.field, c.rule)
		}
	}
}

func TestUserNamespaceOwnsWhatItMounts(t *testing.T) {
	for field, n := range map[string]Namespaces{
		"pid": {PID: NamespaceNode, User: userNamespace()}, "ipc": {IPC: NamespaceNode, User: userNamespace()},
	} {
		err := n.validate("x")
		if err == nil || !strings.HasPrefix(err.Error(), "x."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, n := range []Namespaces{
		{Network: NamespaceNode, User: userNamespace()}, {PID: NamespaceNode, IPC: NamespaceNode, User: &UserNamespace{Mode: NamespaceNode}},
	} {
		if err := n.validate("x"); err != nil {
			t.Error(err)
		}
	}
}

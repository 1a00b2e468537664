package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/sandbox"
)

// Of crew, ExplainContainer and ExplainPod make it cri.Programs.
func (c *crew) ExplainContainer(id string) (string, error) {
	if id == "c1" {
		return "a container\n", nil
	}
	return "", fmt.Errorf("container %s: %w", id, sandbox.ErrNotFound)
}

func (c *crew) ExplainPod(id string) (string, error) {
	switch id {
	case "c1", "p1":
		return "a pod\n", nil
	case "h1":
		return "", nil
	}
	return "", fmt.Errorf("pod %s: %w", id, sandbox.ErrNotFound)
}

func TestExplainOfEither(t *testing.T) {
	berth := asking(t, &shelf{})
	for args, want := range map[string]string{
		"c1": "a container\n", "p1": "a pod\n", "c1 --pod": "a pod\n",
		"h1": "pod h1 has no namespaces of its own, and no process: nothing was launched for it\n",
	} {
		if out, err := berth(append([]string{"explain"}, strings.Fields(args)...)...); err != nil || out != want {
			t.Errorf("%s: %q, %v", args, out, err)
		}
	}
	for args, want := range map[string]string{"x": "explain x: not found, neither as a container nor as a pod", "x --pod": "explain: pod x: not found"} {
		if _, err := berth(append([]string{"explain"}, strings.Fields(args)...)...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

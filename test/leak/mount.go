package leak

import (
	"fmt"
	"os"
	"strings"
)

// mountPoints are the paths that something is mounted on.
func mountPoints() (map[string]bool, error) {
	list, err := mounts()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, l := range list {
		_, path, _ := strings.Cut(l.Name, " ")
		out[path] = true
	}
	return out, nil
}

// mounts are those of our mount namespace, pinned namespaces among them. The id
// tells a mount over another apart from it (proc_pid_mountinfo(5)).
func mounts() ([]Leak, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var out []Leak
	for line := range strings.Lines(string(text)) {
		head, tail, _ := strings.Cut(line, " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if len(h) < 5 || len(t) < 2 {
			return nil, fmt.Errorf("read mounts: unexpected line %q", line)
		}
		out = append(out, Leak{"mount", h[0] + " " + h[4], t[0] + " of " + t[1] + h[3]})
	}
	return out, nil
}

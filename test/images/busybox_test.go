package images

import "testing"

func TestBusyboxHasTheAppletsThatTestsUse(t *testing.T) {
	b, err := loadBusybox()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, a := range b.applets {
		have[a] = true
	}
	for _, a := range []string{
		"sh", "top", "sleep", "echo", "ls", "touch", "cat", "id", "pidof", "pgrep", "ipcs", "netstat", "ping", "brctl",
		"grep", "mount", "mkdir", "dd", "chmod", "hostname", "adduser", "wget", "nc", "tail", "seq", "usleep", "ip",
	} {
		if !have[a] {
			t.Errorf("busybox has no %s", a)
		}
	}
}

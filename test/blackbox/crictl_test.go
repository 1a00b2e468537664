package blackbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
)

// writeJSON writes a configuration as crictl reads it.
func writeJSON(t *testing.T, d *harness.Daemon, name string, content any) string {
	t.Helper()
	text, err := json.Marshal(content)
	check(t, err)
	path := filepath.Join(d.Dir, name)
	check(t, os.WriteFile(path, text, 0o644))
	return path
}

// fields of what crictl prints as JSON, of which tests need few.
type object = map[string]any

func decode(t *testing.T, text string) object {
	t.Helper()
	var out object
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return out
}

// dig goes down a path of keys.
func dig(t *testing.T, in any, keys ...string) any {
	t.Helper()
	for _, k := range keys {
		o, ok := in.(object)
		if !ok {
			t.Fatalf("no %s in %v", k, in)
		}
		in = o[k]
	}
	return in
}

func TestRootCrictl(t *testing.T) {
	d := bare(t)
	if out := d.MustCrictl("version"); !strings.Contains(out, "RuntimeName:  berth") {
		t.Errorf("version: %s", out)
	}
	info := decode(t, d.MustCrictl("info"))
	if dig(t, info, "status", "conditions") == nil {
		t.Errorf("info: %v", info)
	}
	d.MustCrictl("pull", images.Busybox)
	if out := d.MustCrictl("images"); !strings.Contains(out, "registry.k8s.io/e2e-test-images/busybox") || !strings.Contains(out, "1.29-2") {
		t.Errorf("images: %s", out)
	}
	inspected := decode(t, d.MustCrictl("inspecti", images.Busybox))
	id := dig(t, inspected, "status", "id").(string)
	want(t, "id in images -q", d.MustCrictl("images", "-q"), id)
	d.MustCrictl("imagefsinfo")

	config := d.PodConfig("crictl")
	pod := writeJSON(t, d, "pod.json", object{
		"metadata": object{"name": "crictl", "namespace": "test", "uid": "crictl-1", "attempt": 2}, "hostname": "crictl",
		"log_directory": config.LogDirectory, "labels": object{"app": "x"},
		"linux": object{"cgroup_parent": config.Linux.CgroupParent},
	})
	container := writeJSON(t, d, "container.json", object{
		"metadata": object{"name": "main"}, "image": object{"image": images.Busybox}, "log_path": "main.log",
		"command": []string{"sh", "-c", "echo first line; echo second >&2; " + harness.Sleep}, "linux": object{},
	})
	p := d.MustCrictl("runp", pod)
	c := d.MustCrictl("create", p, container, pod)
	want(t, "start", d.MustCrictl("start", c), c)

	if out := d.MustCrictl("pods"); !strings.Contains(out, p[:13]) || !strings.Contains(out, "Ready") || !strings.Contains(out, "crictl") {
		t.Errorf("pods: %s", out)
	}
	pods := decode(t, d.MustCrictl("pods", "-o", "json"))
	item := pods["items"].([]any)[0]
	want(t, "id in pods -o json", dig(t, item, "id"), any(p))
	want(t, "state in pods -o json", dig(t, item, "state"), any("SANDBOX_READY"))
	want(t, "label", dig(t, item, "labels", "app"), any("x"))
	want(t, "pods by label", d.MustCrictl("pods", "-q", "--label", "app=x"), p)
	want(t, "pods by another", d.MustCrictl("pods", "-q", "--label", "app=y"), "")

	if out := d.MustCrictl("ps"); !strings.Contains(out, c[:13]) || !strings.Contains(out, "Running") || !strings.Contains(out, "main") {
		t.Errorf("ps: %s", out)
	}
	want(t, "state in inspect", dig(t, decode(t, d.MustCrictl("inspect", c)), "status", "state"), any("CONTAINER_RUNNING"))
	ip := dig(t, decode(t, d.MustCrictl("inspectp", p)), "status", "network", "ip")
	if ip == "" {
		t.Error("no address in inspectp")
	}
	// Ids may be cut short, as people type them.
	want(t, "exec", d.MustCrictl("exec", "--sync", c[:12], "echo", "from inside"), "from inside")
	if out, err := d.Crictl("exec", "--sync", c, "sh", "-c", "echo bad; exit 3"); err == nil {
		t.Errorf("an exec that exits with 3: %s", out)
	}
	d.Eventually("both lines in the logs", func() bool {
		out := d.MustCrictl("logs", c)
		return strings.Contains(out, "first line") && strings.Contains(out, "second")
	})
	want(t, "the last line of the logs", d.MustCrictl("logs", "--tail", "1", c), "second")

	d.MustCrictl("stop", "--timeout", "5", c)
	if out := d.MustCrictl("ps", "-a"); !strings.Contains(out, "Exited") {
		t.Errorf("ps -a: %s", out)
	}
	want(t, "ps", len(strings.Split(d.MustCrictl("ps"), "\n")), 1) // the headline
	d.MustCrictl("rm", c)
	d.MustCrictl("stopp", p)
	if out := d.MustCrictl("pods"); !strings.Contains(out, "NotReady") {
		t.Errorf("pods after stopp: %s", out)
	}
	d.MustCrictl("rmp", p)
	want(t, "pods at the end", d.MustCrictl("pods", "-q"), "")
	d.MustCrictl("rmi", images.Busybox)
	want(t, "images at the end", d.MustCrictl("images", "-q"), "")
	if out, err := d.Crictl("inspectp", p); err == nil {
		t.Errorf("inspectp of a removed pod: %s", out)
	}
}

func TestRootCrictlRun(t *testing.T) {
	d := start(t)
	config := d.PodConfig("run")
	pod := writeJSON(t, d, "pod.json", object{
		"metadata": object{"name": "run", "namespace": "test", "uid": "run-1"}, "log_directory": config.LogDirectory,
		"linux": object{"cgroup_parent": config.Linux.CgroupParent},
	})
	container := writeJSON(t, d, "container.json", object{
		"metadata": object{"name": "main"}, "image": object{"image": images.Busybox}, "log_path": "main.log", "command": []string{"sleep", "3600"},
	})
	out := d.MustCrictl("run", container, pod) // it says that it pulls, and then the id
	c := out[strings.LastIndexByte(out, '\n')+1:]
	if ps := d.MustCrictl("exec", "--sync", c, "ps"); !strings.Contains(ps, "sleep 3600") {
		t.Errorf("processes seen by an exec:\n%s", ps)
	}
	d.MustCrictl("rmp", "--force", "--all")
	want(t, "containers at the end", d.MustCrictl("ps", "-aq"), "")
}

// TestRootImageCommands uses the operator's own command.
func TestRootImageCommands(t *testing.T) {
	d := bare(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := d.Command(append([]string{"--socket", d.Socket, "images"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("berth images %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("pull", images.Pause)
	if out := run("list"); !strings.Contains(out, images.Pause) {
		t.Errorf("list: %s", out)
	}
	run("rm", images.Pause)
	if out := run("list"); strings.Contains(out, "pause") {
		t.Errorf("list after rm: %s", out)
	}
	for name, write := range archives {
		path := filepath.Join(d.Dir, name)
		check(t, write(path))
		ref := "archive.berth.test/" + name + ":1"
		out := run("import", "--name", ref, path)
		if !strings.Contains(out, "sha256:") {
			t.Errorf("import of %s: %s", name, out)
		}
		config := harness.ContainerConfig(name, "")
		config.Image.Image, config.Command = ref, nil
		c := d.RunPod(harness.OnHostNetwork(d.PodConfig(name))).Run(config)
		c.Wait()
		want(t, "output of the image of "+name, c.Output("stdout"), "Effective uid: 0\n")
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berth-runtime/berth/test/images"
)

// step prints a headline.
func step(format string, args ...any) { fmt.Printf("\n==> "+format+"\n", args...) }

// up shows everything, from the daemon's start on.
func up(ctx context.Context, p place) error {
	if err := p.lay(); err != nil {
		return err
	}
	if pid := p.running(); pid != 0 {
		step("berth is running already (process %d); its demo pod is run anew", pid)
		if _, err := p.crictl(ctx, "rmp", "--all", "--force"); err != nil {
			return err
		}
	} else {
		step("Starting berth, with root %s and state %s", p.root, p.state)
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	step("Building an image offline, and importing it")
	if err := importImage(ctx, p); err != nil {
		return err
	}
	step("Running a pod of two containers")
	pod, web, sidecar, err := runPod(ctx, p)
	if err != nil {
		return err
	}
	step("What runs now")
	for _, args := range [][]string{{"pods"}, {"ps"}} {
		if _, err := p.crictl(ctx, args...); err != nil {
			return err
		}
	}
	step("Fetching the web server's page from this host, at the pod's address")
	if err := fetchPage(ctx, p, pod); err != nil {
		return err
	}
	step("The containers' logs: the sidecar fetches the same page at 127.0.0.1, for a pod has one network")
	if err := logs(ctx, p, web, sidecar); err != nil {
		return err
	}
	step("A command in the web server's container")
	if _, err := p.crictl(ctx, "exec", "--sync", web, "/bin/look"); err != nil {
		return err
	}
	farewell(os.Stdout, p, pod, web)
	return nil
}

// importImage builds the demo's image of one Go program and gives it to the daemon.
func importImage(ctx context.Context, p place) error {
	program, err := images.Program("hack/demo/program")
	if err != nil {
		return err
	}
	tree := new(images.Tree).Dir("bin", 0o755).File("bin/web", 0o755, program).Link("bin/fetch", "bin/web").Link("bin/look", "bin/web").
		Dir("etc", 0o755).Text("etc/passwd", "root:x:0:0:root:/:/bin/web\n").Dir("tmp", 0o1777)
	img, err := images.Single(tree, v1.Config{Cmd: []string{"/bin/web"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		return err
	}
	tag, err := name.NewTag(imageName)
	if err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	archive := p.file("image.tar")
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := output(exec.CommandContext(ctx, filepath.Join(p.bin, "berth"), "--config", p.config(), "images", "import", archive)); err != nil {
		return err
	}
	_, err = p.crictl(ctx, "images")
	return err
}

// runPod runs the pod and returns its id and those of its containers.
func runPod(ctx context.Context, p place) (pod, web, sidecar string, err error) {
	type object = map[string]any
	security := object{"security_context": object{"namespace_options": object{"pid": 1}}} // a PID namespace each
	sandbox := object{
		"metadata": object{"name": "hello", "namespace": "demo", "uid": "hello-1"}, "hostname": "hello", "log_directory": p.file("logs"),
		"linux": object{"cgroup_parent": cgroupParent, "security_context": object{"namespace_options": object{"pid": 1}}},
	}
	container := func(name string, command ...string) object {
		return object{
			"metadata": object{"name": name}, "image": object{"image": imageName}, "command": command, "log_path": name + ".log", "linux": security,
			// kubelet's labels, by which crictl ps says whose the container is
			"labels": object{"io.kubernetes.pod.name": "hello", "io.kubernetes.pod.namespace": "demo", "io.kubernetes.container.name": name},
		}
	}
	for file, content := range map[string]object{
		"pod.json": sandbox, "web.json": container("web", "/bin/web"), "sidecar.json": container("sidecar", "/bin/fetch", "http://127.0.0.1/"),
	} {
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return "", "", "", fmt.Errorf("encode %s: %w", file, err)
		}
		if err := os.WriteFile(p.file(file), text, 0o644); err != nil {
			return "", "", "", fmt.Errorf("write %s: %w", file, err)
		}
	}
	if pod, err = p.crictl(ctx, "runp", p.file("pod.json")); err != nil {
		return "", "", "", err
	}
	ids := map[string]string{}
	for _, name := range []string{"web", "sidecar"} {
		if ids[name], err = p.crictl(ctx, "create", pod, p.file(name+".json"), p.file("pod.json")); err != nil {
			return "", "", "", err
		}
		if _, err = p.crictl(ctx, "start", ids[name]); err != nil {
			return "", "", "", err
		}
	}
	return pod, ids["web"], ids["sidecar"], nil
}

func fetchPage(ctx context.Context, p place, pod string) error {
	ip, err := p.crictl(ctx, "inspectp", "--output", "go-template", "--template", "{{.status.network.ip}}", pod)
	if err != nil {
		return err
	}
	if ip == "" {
		return fmt.Errorf("the pod has no address")
	}
	fmt.Printf("  $ curl http://%s/\n", ip)
	client := &http.Client{Timeout: 5 * time.Second}
	for try := 1; ; try++ {
		r, err := client.Get("http://" + ip + "/")
		if err == nil {
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			fmt.Print("    ", string(text))
			return err
		}
		if try == 50 { // the server may not be listening yet
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// logs shows the logs of both containers, as soon as the sidecar has fetched.
func logs(ctx context.Context, p place, web, sidecar string) error {
	for range 100 {
		text, err := os.ReadFile(filepath.Join(p.file("logs"), "sidecar.log"))
		if err == nil && strings.Contains(string(text), "fetched:") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, id := range []string{web, sidecar} {
		if _, err := p.crictl(ctx, "logs", id); err != nil {
			return err
		}
	}
	return nil
}

// farewell writes how to go on, by hand and from any directory.
func farewell(out io.Writer, p place, pod, web string) {
	fmt.Fprintf(out, `
==> Done. berth and its pod go on running. Go on with

    alias crictl="%[1]s --config %[2]s"
    alias berth="%[3]s --config %[4]s"

    crictl ps                          the containers; crictl pods, crictl images
    crictl logs %.13[5]s          what a container wrote
    crictl exec --sync %.13[5]s /bin/look    a command in it; the image has no shell
    berth explain %.13[5]s        each system call that started a container, and when
    berth explain %.13[6]s        what made its pod
    berth images list                  berth pull, berth images --help
    berth check                        what this node has and lacks
    less %[7]s       the daemon's log

    make demo        runs the pod anew
    make demo-clean  ends and removes all of it
`, filepath.Join(p.bin, "crictl"), p.file("crictl.yaml"), filepath.Join(p.bin, "berth"), p.config(), web, pod, p.log())
}

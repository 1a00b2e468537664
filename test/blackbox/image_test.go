package blackbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-runtime/berth/test/harness"
	"github.com/berth-runtime/berth/test/images"
	"github.com/berth-runtime/berth/test/registry"
)

func bare(t *testing.T) *harness.Daemon {
	t.Helper()
	return harness.Start(t, harness.Options{Registry: bed.Server})
}

func imageStatus(t *testing.T, d *harness.Daemon, ref string) *cri.Image {
	t.Helper()
	r, err := d.Images.ImageStatus(d.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
	check(t, err)
	return r.Image
}

func listImages(t *testing.T, d *harness.Daemon, filter string) []*cri.Image {
	t.Helper()
	request := &cri.ListImagesRequest{}
	if filter != "" {
		request.Filter = &cri.ImageFilter{Image: &cri.ImageSpec{Image: filter}}
	}
	r, err := d.Images.ListImages(d.Context(), request)
	check(t, err)
	return r.Images
}

func TestRootImageReferences(t *testing.T) {
	d := bare(t)
	id := d.Pull(staging + "test-image-tag:test")
	if !strings.HasPrefix(id, "sha256:") || len(id) != 71 {
		t.Errorf("image id %q", id)
	}
	image := imageStatus(t, d, staging+"test-image-tag:test")
	want(t, "id", image.Id, id)
	want(t, "tags", strings.Join(image.RepoTags, " "), staging+"test-image-tag:test")
	if len(image.RepoDigests) != 1 || !strings.HasPrefix(image.RepoDigests[0], staging+"test-image-tag@sha256:") {
		t.Fatalf("digests %v", image.RepoDigests)
	}
	if image.Size == 0 {
		t.Error("no size")
	}
	for _, ref := range []string{id, id[len("sha256:"):], id[7:20], image.RepoDigests[0], "docker.io/library/nothing:here"} {
		got := imageStatus(t, d, ref)
		if strings.Contains(ref, "nothing") {
			if got != nil {
				t.Errorf("%s is %v", ref, got)
			}
			continue
		}
		if got.GetId() != id {
			t.Errorf("by %s it is %v", ref, got.GetId())
		}
	}
	// By its digest it is the same image, and so it is by no tag for :latest.
	want(t, "id of a pull by digest", d.Pull(image.RepoDigests[0]), id)
	latest := d.Pull(staging + "test-image-latest")
	want(t, "id without a tag", imageStatus(t, d, staging+"test-image-latest:latest").Id, latest)
	want(t, "id of docker.io's short name", d.Pull("busybox"), d.Pull("docker.io/library/busybox:latest"))
	// An image in use under its id.
	config := harness.ContainerConfig("c", "cat /etc/variant")
	config.Image = &cri.ImageSpec{Image: id, UserSpecifiedImage: staging + "test-image-tag:test"}
	c := d.RunPod(harness.OnHostNetwork(d.PodConfig("by-id"))).Run(config)
	s := c.Wait()
	want(t, "its content", c.Output("stdout"), "test\n")
	want(t, "image id in the status", s.ImageId, id)
	want(t, "image in the status", s.Image.Image, staging+"test-image-tag:test")
}

func TestRootImageListsAndRemoval(t *testing.T) {
	d := bare(t)
	var ids []string
	for _, tag := range []string{"1", "2", "3"} {
		ids = append(ids, d.Pull(staging+"test-image-tags:"+tag))
	}
	allEqual(t, "three tags", ids)
	want(t, "images", len(listImages(t, d, "")), 1)
	want(t, "tags", len(imageStatus(t, d, ids[0]).RepoTags), 3)
	for _, name := range []string{"1", "2", "3"} {
		d.Pull(staging + "test-image-" + name)
	}
	want(t, "images", len(listImages(t, d, "")), 4)
	want(t, "images of a name", len(listImages(t, d, staging+"test-image-2:latest")), 1)
	want(t, "images of an absent name", len(listImages(t, d, staging+"nothing:latest")), 0)
	remove := func(ref string) {
		t.Helper()
		_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
		check(t, err)
	}
	remove(staging + "test-image-tags:2") // with all of its names
	if imageStatus(t, d, staging+"test-image-tags:1") != nil {
		t.Error("another tag of a removed image is still there")
	}
	// The same image under two hosts is one.
	want(t, "id under another host", d.Pull("k8s.gcr.io/pause:3.9"), d.Pull(images.Pause))
	want(t, "its tags", len(imageStatus(t, d, images.Pause).RepoTags), 2)
	remove("k8s.gcr.io/pause:3.9")
	if imageStatus(t, d, images.Pause) != nil {
		t.Error("it is still there under the other host")
	}
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: staging + "test-image-1"}})
			if err != nil {
				t.Errorf("one of five removals: %v", err)
			}
		})
	}
	wait.Wait()
	want(t, "images", len(listImages(t, d, "")), 2)
}

func TestRootImageFsInfo(t *testing.T) {
	d := bare(t)
	used := func() uint64 {
		t.Helper()
		r, err := d.Images.ImageFsInfo(d.Context(), &cri.ImageFsInfoRequest{})
		check(t, err)
		if len(r.ImageFilesystems) == 0 {
			t.Fatal("no file system")
		}
		f := r.ImageFilesystems[0]
		if _, err := os.Stat(f.GetFsId().GetMountpoint()); err != nil || f.Timestamp == 0 {
			t.Errorf("file system %v: %v", f, err)
		}
		return f.GetUsedBytes().GetValue()
	}
	before := used()
	d.Pull(images.Busybox)
	pulled := used()
	if pulled < before+1<<20 {
		t.Errorf("used bytes were %d, after the pull %d", before, pulled)
	}
	_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
	check(t, err)
	if after := used(); after >= pulled {
		t.Errorf("used bytes were %d, after the removal %d", pulled, after)
	}
}

// TestRootRemovedImageInUse: the image may go, the container's root stays.
func TestRootRemovedImageInUse(t *testing.T) {
	d := start(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("in-use")))
	c := pod.Run(harness.ContainerConfig("c", harness.Sleep))
	_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: images.Busybox}})
	check(t, err)
	want(t, "images", len(listImages(t, d, "")), 0)
	c.Exec("ls /bin/busybox && touch /tmp/f")
	c.Remove()
	d.Pull(images.Busybox)
	want(t, "exit code after another pull", pod.Run(harness.ContainerConfig("again", "exit 6")).Wait().ExitCode, 6)
}

func TestRootImageFormats(t *testing.T) {
	d := bare(t)
	pod := d.RunPod(harness.OnHostNetwork(d.PodConfig("formats")))
	for _, format := range []string{"gzip", "zstd", "plain", "mixed", "docker", "index", "docker-list"} {
		ref := images.FormatHost + "/format:" + format
		d.Pull(ref)
		config := harness.ContainerConfig(format, "cat /etc/format; ls /"+images.WrongPlatform+" 2>/dev/null")
		config.Image.Image = ref
		c := pod.Run(config)
		c.Wait()
		want(t, format, c.Output("stdout"), format+"\n")
	}
	d.Pull(images.Layers)
	config := harness.ContainerConfig("layers", images.CheckLayers)
	config.Image.Image = images.Layers
	c := pod.Run(config)
	c.Wait()
	want(t, "the check of the layers", c.Output("stdout")+c.Output("stderr"), "layers ok\n")
}

func TestRootPullErrors(t *testing.T) {
	d := bare(t)
	pull := func(ref string, auth *cri.AuthConfig) error {
		_, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}, Auth: auth})
		return err
	}
	wantError(t, pull("registry.k8s.io/no/such/image:1", nil), codes.NotFound, "registry.k8s.io/no/such/image:1", bed.Addr())
	wantError(t, pull("registry.k8s.io/pause:no-such-tag", nil), codes.NotFound, "registry.k8s.io/pause:no-such-tag")
	wantError(t, pull("registry.k8s.io/pause@sha256:"+strings.Repeat("0", 64), nil), codes.NotFound, "sha256:000")
	for _, ref := range []string{"", "registry.k8s.io/UPPER/case", "a b", "x@sha256:12"} {
		wantError(t, pull(ref, nil), codes.InvalidArgument)
	}
	want(t, "images that are left", len(listImages(t, d, "")), 0)
}

func TestRootPullWithLogin(t *testing.T) {
	server, err := registry.Start()
	check(t, err)
	t.Cleanup(func() { check(t, server.Close()) })
	list, err := bed.builder.Formats()
	check(t, err)
	check(t, server.Push(images.Named{Refs: []string{server.Addr() + "/format:gzip"}, Image: list[0].Image}))
	server.RequireLogin(server.Addr(), "someone", "secret")
	d := harness.Start(t, harness.Options{Registry: server})
	ref := server.Addr() + "/format:gzip"
	pull := func(auth *cri.AuthConfig) error {
		_, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}, Auth: auth})
		return err
	}
	if err := pull(nil); err == nil || status.Code(err) == codes.NotFound {
		t.Errorf("without a login: %v", err)
	}
	if err := pull(&cri.AuthConfig{Username: "someone", Password: "wrong"}); err == nil {
		t.Error("a wrong password works")
	} else if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the password is in the error: %v", err)
	}
	check(t, pull(&cri.AuthConfig{Username: "someone", Password: "secret"}))
	command := d.Command("pull", "--socket", d.Socket, "--creds", "someone", ref)
	command.Stdin = strings.NewReader("wrong\n")
	if out, err := command.CombinedOutput(); err == nil || strings.Contains(string(out), "wrong") {
		t.Errorf("berth pull with a wrong password: %v, %s", err, out)
	}
	command = d.Command("pull", "--socket", d.Socket, "--creds", "someone", ref)
	command.Stdin = strings.NewReader("secret\n")
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("berth pull: %v, %s", err, out)
	}
	text, err := os.ReadFile(d.LogFile)
	check(t, err)
	if strings.Contains(string(text), "secret") {
		t.Error("the password is in the daemon's log")
	}
}

// TestRootSharedLayersArePulledOnce counts what the registry is asked for.
func TestRootSharedLayersArePulledOnce(t *testing.T) {
	d := bare(t)
	blobs := func() int {
		n := 0
		for _, r := range bed.Requests() {
			if r.Method == "GET" && strings.Contains(r.Path, "/blobs/") {
				n++
			}
		}
		return n
	}
	before := blobs()
	d.Pull(staging + "test-image-1")
	first := blobs() - before
	d.Pull(staging + "test-image-2")
	second := blobs() - before - first
	if first != 3 || second != 2 {
		t.Errorf("the first image took %d blobs and the second, which shares its base, %d; wanted 3 and 2", first, second)
	}
	before = blobs()
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() { d.Pull(staging + "test-image-3") })
	}
	wait.Wait()
	if n := blobs() - before; n != 2 {
		t.Errorf("six pulls at once of one image took %d blobs, wanted 2", n)
	}
}

func TestRootHostileImages(t *testing.T) {
	server, err := registry.Start()
	check(t, err)
	t.Cleanup(func() { check(t, server.Close()) })
	attacks, err := bed.builder.Hostile()
	check(t, err)
	for _, a := range attacks {
		check(t, server.Attack(a))
	}
	d := harness.Start(t, harness.Options{Registry: server})
	passwd, err := os.ReadFile("/etc/passwd")
	check(t, err)
	before := countFiles(t, d.Root)
	victim := "/tmp/berth-test-victim"
	check(t, os.WriteFile(victim, nil, 0o644))
	t.Cleanup(func() { check(t, os.Remove(victim)) })
	for _, a := range attacks {
		ref := a.Ref
		if a.Digest != "" {
			ref = images.FormatHost + "/hostile@" + a.Digest
		}
		_, err := d.Images.PullImage(d.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
		if err == nil && !a.Harmless {
			t.Errorf("%s was accepted", a.Name)
		}
		if err != nil && len(listImages(t, d, ref)) != 0 {
			t.Errorf("%s was refused and is listed", a.Name)
		}
		if _, err := os.Lstat(images.Canary); !os.IsNotExist(err) {
			t.Errorf("%s made %s on the host", a.Name, images.Canary)
			check(t, os.Remove(images.Canary))
		}
		if _, err := os.Lstat(victim); err != nil {
			t.Fatalf("%s removed a file of the host: %v", a.Name, err)
		}
	}
	after, err := os.ReadFile("/etc/passwd")
	check(t, err)
	want(t, "/etc/passwd", string(after), string(passwd))
	for _, image := range listImages(t, d, "") {
		_, err := d.Images.RemoveImage(d.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image.Id}})
		check(t, err)
	}
	d.Eventually("everything that came with the attacks to be gone", func() bool { return countFiles(t, d.Root) <= before })
}

// countFiles counts what is below a directory.
func countFiles(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	check(t, filepath.WalkDir(dir, func(string, fs.DirEntry, error) error {
		n++
		return nil
	}))
	return n
}

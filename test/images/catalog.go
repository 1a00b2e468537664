package images

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What most tests run, the first under the names that critest knows.
const (
	Busybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
	Nginx   = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
	Httpd   = "registry.k8s.io/e2e-test-images/httpd:2.4.39-4"
	Pause   = "registry.k8s.io/pause:3.9"
)

const staging = "gcr.io/k8s-staging-cri-tools/"

// product is one image and all the references it has.
type product struct {
	recipe
	refs []string
}

// Catalog returns the images that critest v1.36.0 pulls, each behind an index with
// a second platform. Missing is one: test-image-digest, whose digest is written
// into critest and cannot be met; an image with other content has its name.
func (b *Builder) Catalog() ([]Named, error) {
	nnp, err := Program("test/images/programs/nnp")
	if err != nil {
		return nil, err
	}
	pause, err := Program("test/images/programs/pause")
	if err != nil {
		return nil, err
	}
	products := b.servers()
	products = append(products, b.shells()...)
	products = append(products, b.users()...)
	products = append(products, b.volumes())
	products = append(products, pauses(pause)...)
	products = append(products, product{
		recipe{layers: []*Tree{b.base, new(Tree).File("nnp", 0o6755, nnp)}, config: v1.Config{Entrypoint: []string{"/nnp"}}},
		[]string{"registry.k8s.io/e2e-test-images/nonewprivs:1.3"},
	})
	return b.named(products)
}

// named builds products as indexes.
func (b *Builder) named(products []product) ([]Named, error) {
	out := make([]Named, len(products))
	for i, p := range products {
		img, err := b.image(p.recipe)
		if err != nil {
			return nil, fmt.Errorf("build image %s: %w", p.refs[0], err)
		}
		idx, err := b.index(img, p.docker)
		if err != nil {
			return nil, fmt.Errorf("build index %s: %w", p.refs[0], err)
		}
		out[i] = Named{Refs: p.refs, Index: idx}
	}
	return out, nil
}

// servers are the web servers.
func (b *Builder) servers() []product {
	nginx := new(Tree).File("usr/sbin/nginx", 0o755, b.web)
	httpd := new(Tree).File("usr/local/bin/httpd", 0o755, b.web).Dir("usr/local/apache2", 0o755)
	nginxConfig := v1.Config{
		Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGTERM",
		Labels: map[string]string{"maintainer": "berth's test bed"}, Env: defaultPath,
	}
	hostConfig := nginxConfig
	hostConfig.Env = append([]string{"PORT=12003"}, defaultPath...)
	hostConfig.StopSignal = "SIGQUIT"
	return []product{
		{recipe{layers: []*Tree{b.base, nginx}, config: nginxConfig}, []string{Nginx}},
		{recipe{layers: []*Tree{b.base, nginx}, config: hostConfig}, []string{staging + "hostnet-nginx-amd64:latest"}},
		{recipe{layers: []*Tree{b.base, httpd}, config: v1.Config{
			Cmd: []string{"httpd"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, WorkingDir: "/usr/local/apache2", StopSignal: "SIGWINCH",
		}}, []string{Httpd}},
	}
}

// shells are busybox with a mark that gives each image an id of its own.
func (b *Builder) shells() []product {
	out := []product{{recipe{layers: []*Tree{b.base}, config: v1.Config{Cmd: []string{"sh"}}}, []string{Busybox}}}
	for mark, refs := range map[string][]string{
		"latest": {staging + "test-image-latest:latest"},
		"test":   {staging + "test-image-tag:test"},
		"all":    {staging + "test-image-tag:all"},
		"digest": {staging + "test-image-digest:latest"},
		"1":      {staging + "test-image-1:latest"},
		"2":      {staging + "test-image-2:latest"},
		"3":      {staging + "test-image-3:latest"},
		"tags":   {staging + "test-image-tags:1", staging + "test-image-tags:2", staging + "test-image-tags:3"},
		"1.35.0": {"public.ecr.aws/docker/library/busybox:1.35.0-glibc"},
		"uclibc": {"public.ecr.aws/docker/library/busybox:1-uclibc"},
		"any":    {"public.ecr.aws/docker/library/busybox:1"},
		"glibc":  {"public.ecr.aws/docker/library/busybox:1-glibc"},
		"musl":   {"public.ecr.aws/docker/library/busybox:1-musl"},
		"hub":    {"docker.io/library/busybox:latest"},
	} {
		tree := new(Tree).Text("etc/variant", mark+"\n")
		out = append(out, product{recipe{layers: []*Tree{b.base, tree}, config: v1.Config{Cmd: []string{"sh"}}}, refs})
	}
	return out
}

// users are the images whose configuration names a user.
func (b *Builder) users() []product {
	var out []product
	for name, user := range map[string]string{
		"test-image-user-uid":            "1002",
		"test-image-user-username":       "www-data",
		"test-image-user-uid-group":      "1003:1004",
		"test-image-user-username-group": "www-data:1004",
	} {
		out = append(out, product{recipe{layers: []*Tree{b.base}, config: v1.Config{Cmd: []string{"sh"}, User: user}}, []string{staging + name + ":latest"}})
	}
	groups := new(Tree).
		Text("etc/passwd", passwd+"default-user:x:1000:1000::/home:/bin/sh\n").
		Text("etc/group", group+"default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
	return append(out, product{recipe{layers: []*Tree{b.base, groups}, config: v1.Config{Cmd: []string{"sh"}, User: "1000"}},
		[]string{staging + "test-image-predefined-group:latest"}})
}

// pauses are images of one program; 3.9 is the same image under two hosts.
func pauses(program []byte) []product {
	tree := new(Tree).File("pause", 0o755, program)
	var out []product
	for _, version := range []string{"3.9", "3.10", "3.10.1", "3.10.2"} {
		refs := []string{"registry.k8s.io/pause:" + version}
		if version == "3.9" {
			refs = append(refs, "k8s.gcr.io/pause:3.9")
		}
		out = append(out, product{recipe{layers: []*Tree{tree}, config: v1.Config{
			Entrypoint: []string{"/pause"}, User: "65535:65535", WorkingDir: "/", Labels: map[string]string{"version": version},
		}}, refs})
	}
	return out
}

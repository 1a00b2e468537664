package cri

import (
	"reflect"
	"testing"

	"github.com/berth-runtime/berth/imagestore"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestImages(t *testing.T) {
	image := &imagestore.Image{ID: "sha256:abc", Tags: []string{"web:1"}, Size: 10}
	image.Config.Config.User = "www"
	d := open(t, &fakeRooms{images: []*imagestore.Image{image}})
	pulled, err := d.images.PullImage(t.Context(), &v1.PullImageRequest{
		Image: &v1.ImageSpec{Image: "web:1"}, Auth: &v1.AuthConfig{Username: "u", Password: "p", ServerAddress: "r"}})
	if err != nil || pulled.ImageRef != image.ID {
		t.Errorf("pull: %v, %v, want the image's id", pulled, err)
	}
	if want := []any{"Pull", "web:1", &imagestore.Auth{Username: "u", Password: "p", ServerAddress: "r"}}; !reflect.DeepEqual(d.rooms.calls[0], want) {
		t.Errorf("pull asked %v, want %v", d.rooms.calls[0], want)
	}
	found, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: image.ID}})
	if err != nil || found.Image.GetId() != image.ID || found.Image.Username != "www" || found.Image.Uid != nil {
		t.Errorf("status: %v, %v", found, err)
	}
	absent, err := d.images.ImageStatus(t.Context(), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "other"}, Verbose: true})
	if err != nil || absent.Image != nil {
		t.Errorf("status of an absent image: %v, %v, want neither image nor error", absent, err)
	}
	list, err := d.images.ListImages(t.Context(), &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: &v1.ImageSpec{Image: "other"}}})
	if err != nil || len(list.Images) != 0 {
		t.Errorf("list of an absent image: %v, %v", list, err)
	}
	if list, err = d.images.ListImages(t.Context(), &v1.ListImagesRequest{}); err != nil || len(list.Images) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err = d.images.RemoveImage(t.Context(), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "x"}}); err != nil {
		t.Error(err)
	}
	fs, err := d.images.ImageFsInfo(t.Context(), &v1.ImageFsInfoRequest{})
	if err != nil || fs.ImageFilesystems[0].FsId.Mountpoint != "/var/lib/berth" || fs.ImageFilesystems[0].UsedBytes.Value != 4096 {
		t.Errorf("file system: %v, %v", fs, err)
	}
}

// kubelet sends an empty AuthConfig for "no credentials".
func TestDecodeAuth(t *testing.T) {
	for _, in := range []*v1.AuthConfig{nil, {}, {ServerAddress: "registry"}} {
		if got := decodeAuth(in); got != nil {
			t.Errorf("%v: %+v, want anonymous", in, got)
		}
	}
	for _, in := range []*v1.AuthConfig{{Username: "u"}, {Password: "p"}, {Auth: "a"}, {IdentityToken: "i"}, {RegistryToken: "r"}} {
		if decodeAuth(in) == nil {
			t.Errorf("%v: anonymous", in)
		}
	}
}

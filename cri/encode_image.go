package cri

import (
	"strconv"
	"strings"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func encodeImage(in *imagestore.Image) *v1.Image {
	uid, username := encodeImageUser(in.Config.Config.User)
	return &v1.Image{
		Id:          in.ID,
		RepoTags:    in.Tags,
		RepoDigests: in.Digests,
		Size:        in.Size,
		Uid:         uid,
		Username:    username,
		Spec:        &v1.ImageSpec{Image: in.ID},
		Pinned:      in.Pinned,
	}
}

// encodeImageUser splits an image's USER ("1000", "www", "1000:1000", "www:www"):
// kubelet decides runAsNonRoot from uid, or from username when there is no uid.
// api.proto: "UID and the following user name are mutually exclusive". Neither
// means root, as for containerd and CRI-O.
func encodeImageUser(user string) (*v1.Int64Value, string) {
	name, _, _ := strings.Cut(user, ":")
	if uid, err := strconv.ParseInt(name, 10, 64); err == nil {
		return &v1.Int64Value{Value: uid}, ""
	}
	return nil, name
}

// encodeUsage gives the state of a file system at a time.
func encodeUsage(in imagestore.Usage, at time.Time) *v1.FilesystemUsage {
	return &v1.FilesystemUsage{
		Timestamp:  at.UnixNano(),
		FsId:       &v1.FilesystemIdentifier{Mountpoint: in.Mountpoint},
		UsedBytes:  &v1.UInt64Value{Value: in.Bytes},
		InodesUsed: &v1.UInt64Value{Value: in.Inodes},
	}
}

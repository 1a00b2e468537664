package cri

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/berth-runtime/berth/imagestore"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Images is what the door asks of the image store. A reference is an id, a short
// id, a tag, a name without tag, or a digest. Image gives imagestore.ErrNotFound
// for one that isn't there; Remove succeeds.
type Images interface {
	Pull(ctx context.Context, ref string, auth *imagestore.Auth) (*imagestore.Image, error)
	Image(ref string) (*imagestore.Image, error)
	Images() []*imagestore.Image
	Remove(ctx context.Context, ref string) error
	Usage(ctx context.Context) (imagestore.Usage, error)
	Import(ctx context.Context, archive io.Reader, name string) ([]*imagestore.Image, error)
	PullProgress(ref string, auth *imagestore.Auth) []imagestore.LayerProgress
	Export(ctx context.Context, refs []string, w io.Writer) error
	Verify(ctx context.Context, refs []string, repair bool, report func(imagestore.LayerCheck)) error
}

// imageService is CRI's ImageService.
type imageService struct {
	v1.UnimplementedImageServiceServer
	handlers Handlers
	images   Images
	now      func() time.Time
}

// PullImage returns the image's id: CRI wants image_ref to be Image.id and
// Container.image_id, whichever registry it came from.
func (s *imageService) PullImage(ctx context.Context, req *v1.PullImageRequest) (*v1.PullImageResponse, error) {
	if req.GetImage().GetImage() == "" {
		return nil, missing("image.image")
	}
	// api.proto: "If the runtime handler is unknown, the request should be rejected."
	if err := s.handlers.check("image.runtime_handler", req.Image.RuntimeHandler); err != nil {
		return nil, err
	}
	image, err := s.images.Pull(ctx, req.Image.Image, decodeAuth(req.Auth))
	if err != nil {
		return nil, err
	}
	return &v1.PullImageResponse{ImageRef: image.ID}, nil
}

// decodeAuth returns nil, anonymous, for credentials without content.
func decodeAuth(in *v1.AuthConfig) *imagestore.Auth {
	out := imagestore.Auth{
		Username:      in.GetUsername(),
		Password:      in.GetPassword(),
		Auth:          in.GetAuth(),
		ServerAddress: in.GetServerAddress(),
		IdentityToken: in.GetIdentityToken(),
		RegistryToken: in.GetRegistryToken(),
	}
	if out == (imagestore.Auth{ServerAddress: out.ServerAddress}) {
		return nil
	}
	return &out
}

func (s *imageService) ListImages(_ context.Context, req *v1.ListImagesRequest) (*v1.ListImagesResponse, error) {
	if ref := req.GetFilter().GetImage().GetImage(); ref != "" {
		image, err := s.lookup(ref)
		if err != nil || image == nil {
			return &v1.ListImagesResponse{}, err
		}
		return &v1.ListImagesResponse{Images: []*v1.Image{encodeImage(image)}}, nil
	}
	images := s.images.Images()
	out := &v1.ListImagesResponse{Images: make([]*v1.Image, 0, len(images))}
	for _, image := range images {
		out.Images = append(out.Images, encodeImage(image))
	}
	return out, nil
}

// ImageStatus of an image that isn't there is a response without image: kubelet
// takes an error for a fault of the runtime.
func (s *imageService) ImageStatus(_ context.Context, req *v1.ImageStatusRequest) (*v1.ImageStatusResponse, error) {
	ref := req.GetImage().GetImage()
	if ref == "" {
		return nil, missing("image.image")
	}
	image, err := s.lookup(ref)
	if err != nil || image == nil {
		return &v1.ImageStatusResponse{}, err
	}
	out := &v1.ImageStatusResponse{Image: encodeImage(image)}
	if req.Verbose {
		out.Info, err = encodeInfo(map[string]any{"info": encodeImageDetails(image)})
	}
	return out, err
}

// lookup returns nil for an image that isn't there.
func (s *imageService) lookup(ref string) (*imagestore.Image, error) {
	image, err := s.images.Image(ref)
	if errors.Is(err, imagestore.ErrNotFound) {
		return nil, nil
	}
	return image, err
}

func (s *imageService) RemoveImage(ctx context.Context, req *v1.RemoveImageRequest) (*v1.RemoveImageResponse, error) {
	ref := req.GetImage().GetImage()
	if ref == "" {
		return nil, missing("image.image")
	}
	if err := s.images.Remove(ctx, ref); err != nil {
		return nil, err
	}
	return &v1.RemoveImageResponse{}, nil
}

// ImageFsInfo gives one file system for images and containers alike: kubelet
// reads index 0 only.
func (s *imageService) ImageFsInfo(ctx context.Context, _ *v1.ImageFsInfoRequest) (*v1.ImageFsInfoResponse, error) {
	usage, err := s.images.Usage(ctx)
	if err != nil {
		return nil, err
	}
	fs := []*v1.FilesystemUsage{encodeUsage(usage, s.now())}
	return &v1.ImageFsInfoResponse{ImageFilesystems: fs, ContainerFilesystems: fs}, nil
}

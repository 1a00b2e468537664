package cri

import (
	"context"
	"net"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage bounds a message both ways. It is what kubelet's client accepts.
const maxMessage = 16 << 20

// Parts are what a Server stands on.
type Parts struct {
	Pods        Pods
	Containers  Containers
	Node        Node
	Images      Images
	Programs    Programs
	Streams     Streams
	Stats       Stats
	Checkpoints Checkpoints
	Log         logrus.FieldLogger
}

// Server serves CRI, and beside it the import of image archives and the explanation of launches.
type Server struct {
	grpc *grpc.Server
	end  context.CancelFunc // ends streams that would go on for ever
}

// NewServer registers the services. Nothing is served before Serve.
func NewServer(cfg Config, parts Parts) *Server {
	door := &interceptor{log: parts.Log, tracer: cfg.Tracer}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.NumStreamWorkers(4),
		grpc.ChainUnaryInterceptor(door.unary),
		grpc.StreamInterceptor(door.stream),
		grpc.ForceServerCodecV2(newCodec()),
	}
	if cfg.Tracer != nil {
		options = append(options, cfg.Tracer.Option(), grpc.ChainUnaryInterceptor((&traced{cfg.Tracer, parts.Pods, parts.Containers}).unary))
	}
	options = append(options, grpc.ChainUnaryInterceptor((&lister{parts.Pods, parts.Containers}).unary))
	s := grpc.NewServer(options...)
	ending, end := context.WithCancel(context.Background())
	v1.RegisterRuntimeServiceServer(s, newRuntimeService(cfg, parts, time.Now, ending))
	v1.RegisterImageServiceServer(s, &imageService{handlers: cfg.Handlers, images: parts.Images, now: time.Now})
	s.RegisterService(&importService, parts.Images)
	s.RegisterService(&explainService, parts.Programs)
	return &Server{grpc: s, end: end}
}

// Serve answers on the listener until Stop, and then returns nil. It closes the
// listener.
func (s *Server) Serve(l net.Listener) error {
	return s.grpc.Serve(l)
}

// Stop takes no further requests, and waits for those that run until ctx ends;
// then it breaks them off. Their clients see Unavailable, and what they began goes
// on in the sandbox. It may be called more than once.
func (s *Server) Stop(ctx context.Context) {
	s.end()
	done := make(chan struct{})
	go func() { // ends with GracefulStop, which Stop below cuts short
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

package cri

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// CRI knows nothing of launch programs, so berth has two methods of its own on the same socket, in
// berth.v1.Programs: ExplainContainer and ExplainPod, which take an id, or the beginning of one, and
// answer text (StringValue both).
const (
	explainContainerMethod = "/berth.v1.Programs/ExplainContainer"
	explainPodMethod       = "/berth.v1.Programs/ExplainPod"
)

// Programs are what was launched.
type Programs interface {
	ExplainContainer(id string) (string, error)
	ExplainPod(id string) (string, error) // empty: nothing was
}

var explainService = grpc.ServiceDesc{
	ServiceName: "berth.v1.Programs",
	HandlerType: (*Programs)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "ExplainContainer", Handler: serveExplain(explainContainerMethod, "container_id", Programs.ExplainContainer)},
		{MethodName: "ExplainPod", Handler: serveExplain(explainPodMethod, "pod_sandbox_id", Programs.ExplainPod)},
	},
}

func serveExplain(method, field string, explain func(Programs, string) (string, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		var id wrapperspb.StringValue
		if err := decode(&id); err != nil {
			return nil, err
		}
		serve := func(context.Context, any) (any, error) {
			if id.Value == "" {
				return nil, missing(field)
			}
			text, err := explain(srv.(Programs), id.Value)
			if err != nil {
				return nil, err
			}
			return wrapperspb.String(text), nil
		}
		return around(ctx, &id, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, serve)
	}
}

// ExplainContainer asks the daemon at conn for the program that a container was started by.
func ExplainContainer(ctx context.Context, conn grpc.ClientConnInterface, id string) (string, error) {
	return explain(ctx, conn, explainContainerMethod, id)
}

// ExplainPod asks the daemon at conn for the programs that made a pod; empty when there was none.
func ExplainPod(ctx context.Context, conn grpc.ClientConnInterface, id string) (string, error) {
	return explain(ctx, conn, explainPodMethod, id)
}

func explain(ctx context.Context, conn grpc.ClientConnInterface, method, id string) (string, error) {
	var out wrapperspb.StringValue
	if err := conn.Invoke(ctx, method, wrapperspb.String(id), &out); err != nil {
		return "", err
	}
	return out.Value, nil
}

package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// flushTime bounds the sending of what is left at the end: a collector that is away holds no restart up.
const flushTime = time.Second

// Tracer records requests. The nil one records nothing.
type Tracer struct {
	provider *sdk.TracerProvider
	steps    trace.Tracer
}

// Open returns nil when c has no endpoint. It connects to nothing: a collector may come later. The caller closes it.
func Open(ctx context.Context, c Config, version string, log logrus.FieldLogger) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	address, tls := strings.CutPrefix(c.Endpoint, overTLS)
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(address)}
	if !tls {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this node in traces: %w", err)
	}
	about := resource.NewSchemaless(attribute.String("service.name", "berth"), attribute.String("service.version", version), attribute.String("host.name", host))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.WithFields(logrus.Fields{"op": "send traces to " + c.Endpoint, "error": err}).Warn("traces are lost")
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(float64(c.SamplingRatePerMillion)/million))))
	otel.SetTracerProvider(provider) // which the registry client takes: a pull's requests are spans of the pull
	return &Tracer{provider, provider.Tracer("berth")}, nil
}

// Option has a gRPC server record its requests.
func (t *Tracer) Option() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))))
}

// Recorded says whether the request of ctx is.
func (t *Tracer) Recorded(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Step adds what was done for the request of ctx, from when, and for how long.
func (t *Tracer) Step(ctx context.Context, what string, from time.Time, took time.Duration) {
	_, span := t.steps.Start(ctx, what, trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(from.Add(took)))
}

// Describe adds to the request's own span what it was about.
func (t *Tracer) Describe(ctx context.Context, key, value string) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String(key, value))
}

// ID is the trace that the request of ctx belongs to, as text; "": to none.
func (t *Tracer) ID(ctx context.Context) string {
	if t == nil {
		return ""
	}
	if c := trace.SpanContextFromContext(ctx); c.HasTraceID() {
		return c.TraceID().String()
	}
	return ""
}

// Close sends what is left, for a second at most.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

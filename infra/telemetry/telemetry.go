// Package telemetry gives every process the same logs, metrics and traces.
//
// Logs are JSON lines of slog; what a request is about (tenant, cell, epoch,
// request id) is put into the context once with [With] and appears on every
// line. Traces are OpenTelemetry, sent by OTLP when the standard environment
// variables name a collector. Metrics are Prometheus on a registry that is
// passed around, never global.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/infra/run"
)

// Attribute keys that the semantic conventions lack.
const (
	TenantKey = attribute.Key("saas.tenant.id")
	CellKey   = attribute.Key("saas.cell.id")
	EpochKey  = attribute.Key("saas.cell.epoch")
)

// Telemetry is what a process reports through.
type Telemetry struct {
	Log      *slog.Logger
	Level    *slog.LevelVar // may be changed at run time: see Admin
	Registry *prometheus.Registry
	stop     func(context.Context) error
	sink     *sink
}

// Start sets up logging to w (which nobody waits for: see sink), metrics and tracing for service (such as
// "router"), running as instance (such as "router-1"). Spans are exported when
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set.
// It sets the process-wide tracer provider, propagator and default logger.
func Start(ctx context.Context, service, instance string, w io.Writer) (*Telemetry, error) {
	t := &Telemetry{Level: new(slog.LevelVar), Registry: prometheus.NewRegistry(), stop: func(context.Context) error { return nil }}
	t.sink = newSink(w, t.Registry, func(dropped int) { t.Log.Warn("log lines dropped", "lines", dropped) })
	t.Log = NewLog(t.sink, t.Level, service, instance)
	slog.SetDefault(t.Log)

	t.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "build_info", Help: "What the binary was built from; always 1.",
	}, []string{"version", "revision", "goversion"})
	info := run.BuildInfo()
	build.WithLabelValues(info["version"], info["revision"], info["goversion"]).Set(1)
	t.Registry.MustRegister(build)

	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		// Without a collector spans still carry ids into logs and headers.
		otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))
		return t, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		t.sink.close()
		return nil, fmt.Errorf("start trace exporter: %w", err)
	}
	res := resource.NewSchemaless(attribute.String("service.namespace", "cellway"),
		attribute.String("service.name", service), attribute.String("service.instance.id", instance),
		attribute.String("service.version", run.Version))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	otel.SetTracerProvider(provider)
	t.stop = provider.Shutdown
	return t, nil
}

// NewLog is the logger of a process: JSON lines to w, with what With stored.
func NewLog(w io.Writer, level slog.Leveler, service, instance string) *slog.Logger {
	return slog.New(contextHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})}).With("service", service, "instance", instance)
}

// Close sends what is still buffered, spans for at most five seconds and lines for two.
func (t *Telemetry) Close() error {
	// The process is ending: its own context is over, the spans are not sent yet.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := t.stop(ctx)
	t.sink.close()
	return err
}

type attrsKey struct{}

// With returns a context whose log lines carry args (slog's key, value pairs)
// besides those that ctx already has.
func With(ctx context.Context, args ...any) context.Context {
	old, _ := ctx.Value(attrsKey{}).([]any)
	return context.WithValue(ctx, attrsKey{}, append(old[:len(old):len(old)], args...))
}

// untraced is the trace of what is nobody's request. It is valid and not sampled, so
// that samplers that follow a span's parent record nothing of it.
var untraced = trace.TraceID{1}

// Untraced is ctx for work that is nobody's request, such as polling: spans within it
// are not recorded, and its lines name no trace.
func Untraced(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: untraced, SpanID: trace.SpanID{1}, Remote: true,
	}))
}

// contextHandler adds what With stored, and the trace id.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if args, ok := ctx.Value(attrsKey{}).([]any); ok {
		r.Add(args...)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() && sc.TraceID() != untraced {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(a)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}

package keep_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cellway/cellway/cell/keep"
)

// TestTracesHoldNoValues is not parallel: the tracer is the process's.
func TestTracesHoldNoValues(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })
	c := newCell(t)
	must(t, keep.Trace(c.raw))
	const secret = "what the tenant wrote"
	must(t, c.Set(t.Context(), key(tenant, 1, "a"), []byte(secret), 0))
	must(t, c.raw.Set(t.Context(), "a", secret, 0).Err())
	_, err := c.raw.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		return p.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: []string{"event", secret}}).Err()
	})
	must(t, err)
	spans := exporter.GetSpans()
	for _, s := range spans {
		if text := fmt.Sprint(s.Name, s.Attributes, s.Events, s.Status); strings.Contains(text, secret) {
			t.Errorf("span %q holds it: %s", s.Name, text)
		}
	}
	if !slices.ContainsFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "set" }) {
		t.Errorf("no span of the command set among %d", len(spans))
	}
}

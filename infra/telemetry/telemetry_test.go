package telemetry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestStartGivesEveryLineServiceAndInstance(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	var out bytes.Buffer
	tel, err := Start(t.Context(), "router", "router-1", &out)
	if err != nil {
		t.Fatal(err)
	}
	tel.Log.Info("first")
	slog.Info("through the default logger")
	tel.Log.Debug("not at this level")
	tel.Level.Set(slog.LevelDebug)
	tel.Log.Debug("now")
	if err := tel.Close(); err != nil {
		t.Error(err)
	}
	got := lines(t, &out)
	if len(got) != 3 {
		t.Fatalf("got %d lines, want 3", len(got))
	}
	for _, line := range got {
		if line["service"] != "router" || line["instance"] != "router-1" {
			t.Errorf("got %v, want service and instance", line)
		}
	}
	problems, err := testutil.GatherAndLint(tel.Registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(tel.Registry, "build_info"); n != 1 || err != nil {
		t.Errorf("build_info: got %d (%v), want 1", n, err)
	}
}

func TestCollectorIsNamedByTheStandardVariables(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	tel, err := Start(t.Context(), "router", "router-1", &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.Close(); err != nil { // no span: nothing to send, nobody to miss
		t.Error(err)
	}
}

func TestWithPutsAttributesOnEveryLineOfAContext(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(contextHandler{slog.NewJSONHandler(&out, nil)}).With("service", "cell").WithGroup("g")
	base := With(t.Context(), "tenant", "7")
	one, two := With(base, "move", "m1"), With(base, "move", "m2")
	log.InfoContext(one, "one")
	log.InfoContext(two, "two")
	log.InfoContext(base, "base")
	got := lines(t, &out)
	for i, want := range []any{"m1", "m2", nil} {
		g, _ := got[i]["g"].(map[string]any)
		if g["tenant"] != "7" || g["move"] != want || got[i]["service"] != "cell" {
			t.Errorf("line %d: got %v, want tenant 7 and move %v", i, got[i], want)
		}
	}
}

func TestLinesOfASpanCarryItsIDs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(contextHandler{slog.NewJSONHandler(&out, nil)})
	ctx, span := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "work")
	defer span.End()
	log.InfoContext(ctx, "inside")
	log.InfoContext(t.Context(), "outside")
	polling, query := sdktrace.NewTracerProvider().Tracer("test").Start(Untraced(t.Context()), "query")
	defer query.End()
	log.InfoContext(polling, "polling")
	got := lines(t, &out)
	if query.IsRecording() {
		t.Error("a span of work that is nobody's request is recorded")
	}
	if id := span.SpanContext().TraceID().String(); got[0]["trace_id"] != id || strings.Trim(id, "0") == "" {
		t.Errorf("got %v, want trace %s", got[0], id)
	}
	for _, line := range got[1:] {
		if _, there := line["trace_id"]; there {
			t.Errorf("got %v, want no trace outside the span, nor of polling", line)
		}
	}
}

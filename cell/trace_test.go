package cell_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/worker"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/testkit"
)

// work runs the relay and the consumers of the cell until the test ends.
func (h *harness) work() {
	h.t.Helper()
	rdb, log := testkit.RedisClient(h.t, h.redisURL), slog.New(slog.DiscardHandler)
	if err := keep.Trace(rdb); err != nil {
		h.t.Fatal(err)
	}
	w, err := worker.New(h.store, rdb, projects.New(nil, nil).Consumers(), worker.Options{Log: log})
	if err != nil {
		h.t.Fatal(err)
	}
	g := run.NewGroup(context.Background())
	g.Go("relay", outbox.NewRelay(h.store, rdb, outbox.RelayOptions{Log: log}).Run)
	g.Go("worker", w.Run)
	h.t.Cleanup(func() {
		g.Stop()
		if err := g.Wait(); err != nil {
			h.t.Error(err)
		}
	})
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not %s in time", what)
		}
	}
}

const (
	incomingTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	incomingSpan  = "00f067aa0ba902b7"
)

// TestOneTraceFromTheRouterToTheConsumer is not parallel: the tracer is the process's.
func TestOneTraceFromTheRouterToTheConsumer(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	h := start(t)
	h.work()
	h.want(201, request{
		method: "POST", path: "/t/acme/v1/projects", body: `{"name":"Moon"}`,
		header: map[string]string{"traceparent": "00-" + incomingTrace + "-" + incomingSpan + "-01"},
	})
	// Each step of the way, and the step that it happened in.
	way := []struct{ span, parent string }{
		{"POST /v1/projects", ""},
		{"INSERT", "POST /v1/projects"},
		{"evalsha", "POST /v1/projects"},
		{"publish com.cellway.projects.project.created.v1", "POST /v1/projects"},
		{"process com.cellway.projects.project.created.v1", "POST /v1/projects"},
		{"INSERT", "process com.cellway.projects.project.created.v1"},
	}
	var spans spanTree
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("spans:\n%s", spans)
		}
	})
	eventually(t, "the trace complete", func() bool {
		spans = spanTree(exporter.GetSpans())
		for _, step := range way {
			if !spans.has(step.span, step.parent) {
				return false
			}
		}
		return true
	})
	for _, s := range spans {
		if s.Name == "POST /v1/projects" && s.Parent.SpanID().String() != incomingSpan {
			t.Errorf("parent of the cell's span: got %s, want %s", s.Parent.SpanID(), incomingSpan)
		}
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "Moon") {
				t.Errorf("span %q tells what the tenant wrote: %s", s.Name, a.Key)
			}
		}
	}
}

type spanTree tracetest.SpanStubs

// has reports whether a span of the incoming trace has a name and, somewhere
// above it, a span called parent.
func (spans spanTree) has(name, parent string) bool {
	byID := map[trace.SpanID]tracetest.SpanStub{}
	for _, s := range spans {
		byID[s.SpanContext.SpanID()] = s
	}
	for _, s := range spans {
		if s.Name != name || s.SpanContext.TraceID().String() != incomingTrace {
			continue
		}
		for up, ok := s, true; ok; up, ok = byID[up.Parent.SpanID()] {
			if parent == "" || up.Name == parent {
				return true
			}
		}
	}
	return false
}

func TestActivityHasEveryEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.work()
	p := h.createProject(acme, "Moon")
	for range 4 {
		h.createTask(acme, p.ID, "fuel")
	}
	h.want(204, request{method: "DELETE", path: "/v1/projects/" + p.ID})
	last := h.position(acme)
	var page projects.ActivityPage
	eventually(t, "all events are consumed", func() bool {
		page = decode[projects.ActivityPage](t, h.want(200, request{method: "GET", path: "/v1/activity"}))
		return page.NextAfter == last
	})
	for i, a := range page.Items {
		if a.Seq != int64(i+1) {
			t.Errorf("item %d has seq %d", i, a.Seq)
		}
	}
	if got := page.Items[len(page.Items)-1]; got.Subject != "project/"+p.ID || got.Type != "com.cellway.projects.project.deleted.v1" {
		t.Errorf("last: got %+v", got)
	}
	rest := decode[projects.ActivityPage](t, h.want(200, request{method: "GET", path: "/v1/activity?after=4&limit=1"}))
	if len(rest.Items) != 1 || rest.Items[0].Seq != 5 || rest.NextAfter != 5 {
		t.Errorf("page after 4: got %+v", rest)
	}
	if other := h.want(200, request{tenant: bravo, method: "GET", path: "/v1/activity"}); string(other.body) != "{\"items\":[],\"next_after\":0}\n" {
		t.Errorf("another tenant: got %s", other.body)
	}
}

// String lists the spans of the incoming trace, for a failure's message.
func (spans spanTree) String() string {
	var b strings.Builder
	for _, s := range spans {
		if s.SpanContext.TraceID().String() == incomingTrace {
			fmt.Fprintf(&b, "%s %q in %s\n", s.SpanContext.SpanID(), s.Name, s.Parent.SpanID())
		}
	}
	return b.String()
}

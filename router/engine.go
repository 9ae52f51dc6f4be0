package router

import (
	"log/slog"
	"net/http"
	"runtime"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/h1"
)

// NewEngine is NewServer over our own HTTP/1.1 engine, for a Router whose
// Forwarder is a Relay.
func (rt *Router) NewEngine() *h1.Server {
	return &h1.Server{
		Handler: continued(rt.Handler()), Files: rt.files(), Direct: newDirect(rt), Head: headTimeout, Idle: clientIdle, Whole: rt.whole(),
		Limits:   h1.Limits{Head: maxHeadIn},
		Refused:  rt.malformed,
		Draining: rt.streams.Close, // their clients find another router
		Panicked: func(cause any) { rt.Log.Error("handler panicked", slog.Any("cause", cause)) },
	}
}

// files bounds the connections to cells; nil where nothing does.
func (rt *Router) files() *h1.Files {
	if relay, ok := rt.Forwarder.(*Relay); ok {
		return relay.pools.Files
	}
	return nil
}

// NewLoops is NewEngine with event loops, on Linux: as many as there are processors.
func (rt *Router) NewLoops() *h1.Server {
	s := rt.NewEngine()
	s.Loops = runtime.GOMAXPROCS(0)
	return s
}

// malformed counts a request that is not HTTP as the engine takes it, and says
// what its sender reads. There is no line in the log: whoever sends such
// requests could fill it.
func (rt *Router) malformed(f h1.Fault, path string, header http.Header) (body []byte) {
	rt.metrics.malformed.WithLabelValues(f.Reason()).Inc()
	id := telemetry.NewID()
	header.Set(telemetry.RequestIDHeader, id)
	header.Set("Content-Type", problem.ContentType)
	header.Set("Cache-Control", "no-store")
	return problem.Make(faulty(f), problem.Where{Source: source, RequestID: id, Instance: path}).Body
}

// faulty is what a fault of a request, of its head or its body, means to its sender.
func faulty(f h1.Fault) error {
	return problem.Wrap(problem.FromStatus(f.Status()), f, f.Error()).With("reason", f.Reason())
}

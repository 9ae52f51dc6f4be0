package router

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/h1"
)

// NewEngine is NewServer over our own HTTP/1.1 engine, for a Router whose
// Forwarder is a Relay.
func (rt *Router) NewEngine() *h1.Server {
	return &h1.Server{
		Handler: continued(rt.Handler()), Files: rt.files(), Direct: newDirect(rt), Head: headTimeout, Idle: clientIdle, Whole: rt.whole(),
		Limits:   h1.Limits{Head: maxHeadIn},
		Refused:  rt.malformed,
		Draining: rt.streams.close, // their clients find another router
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
func (rt *Router) malformed(f h1.Fault) (contentType string, body []byte) {
	rt.metrics.malformed.WithLabelValues(f.Reason()).Inc()
	kind := problem.Invalid
	if f.Status() == http.StatusRequestHeaderFieldsTooLarge {
		kind = problem.HeadTooLarge
	}
	body, err := json.Marshal(struct {
		Title  string       `json:"title"`
		Status int          `json:"status"`
		Detail string       `json:"detail"`
		Code   problem.Kind `json:"code"`
		Source string       `json:"source"`
		Reason string       `json:"reason"`
	}{http.StatusText(f.Status()), f.Status(), f.Error(), kind, source, f.Reason()})
	if err != nil {
		return "text/plain", []byte(f.Error()) // cannot be: the parts are constants
	}
	return problem.ContentType, append(body, '\n')
}

package cell

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// Defaults of Options.
const (
	DefaultMaxBody = 1 << 20          // bytes
	DefaultTimeout = 10 * time.Second // of one request
)

// Options are what a Server is made of. Modules, DB, Cache, Log and Registry are needed.
type Options struct {
	Cell          directory.CellID
	Modules       []Module // with the API module
	DB            *DB
	Cache         *Cache
	AssertionKeys token.Keys       // whose assertions count; none refuses every request
	TokenKeys     token.Keys       // whose bearer tokens count
	RatePerMinute int              // requests of one tenant; 0 is no limit
	MaxBody       int64            // bytes; 0 is DefaultMaxBody
	Timeout       time.Duration    // of one request; 0 is DefaultTimeout
	Now           func() time.Time // nil is time.Now
	Log           *slog.Logger
	Registry      prometheus.Registerer
	Observe       func(took time.Duration) // called after each request but streams; nil is nobody
	Meter         *Meter                   // of each tenant's load; nil measures nothing
}

// A Server is the tenant API of one cell: an http.Handler.
type Server struct {
	gate    gate
	db      *DB
	limiter *limiter
	maxBody int64
	timeout time.Duration
	metrics *metrics
	told    func(took time.Duration)
	meter   *Meter
	mux     *mux.Router
	version []string     // of the contract, in each answer
	handler http.Handler // serve, within telemetry
}

// New puts the modules together. It fails where their routes and the contract differ.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	ops, err := operations()
	if err != nil {
		return nil, err
	}
	all, err := endpoints(ops, o.Modules)
	if err != nil {
		return nil, err
	}
	o.DB.streams.register(o.Registry)
	s := &Server{
		gate: gate{cell: o.Cell, assertions: o.AssertionKeys, tokens: o.TokenKeys, now: o.Now},
		db:   o.DB, limiter: newLimiter(o.Cache, o.RatePerMinute),
		maxBody: o.MaxBody, timeout: o.Timeout, metrics: newMetrics(o.Registry), told: o.Observe, meter: o.Meter,
	}
	s.mux, s.version = s.routes(all), []string{all[0].op.Spec.Info.Version}
	// The router is the only peer and has cleaned the request id: it is taken over.
	s.handler = otelhttp.NewHandler(telemetry.HTTP(o.Log, source, true, http.HandlerFunc(s.serve)), "cell request")
	return s, nil
}

// ServeHTTP serves one request of a router.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes registers every path once; the methods are told apart below it, so that
// a wrong one is a 405 that names the right ones.
func (s *Server) routes(all []endpoint) *mux.Router {
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, problem.New(problem.NotFound, "no such path"))
	})
	for len(all) > 0 {
		path, n := all[0].route.Path, 0
		methods := map[string]http.Handler{}
		for ; n < len(all) && all[n].route.Path == path; n++ {
			methods[all[n].route.Method] = s.operation(all[n])
		}
		r.Handle(path, byMethod(path, methods))
		all = all[n:]
	}
	return r
}

func byMethod(path string, methods map[string]http.Handler) http.Handler {
	var names []string
	for m := range methods {
		names = append(names, m)
	}
	slices.Sort(names)
	allow := strings.Join(names, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := methods[r.Method]; ok {
			h.ServeHTTP(w, r)
			return
		}
		callFrom(r.Context()).route = path
		Problem(w, r, problem.New(problem.MethodNotAllowed, "this path takes %s", allow).Allows(allow))
	})
}

// operation serves one endpoint: labels, contract, idempotency, then the module.
func (s *Server) operation(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callFrom(r.Context())
		c.module, c.route = e.module, e.route.Path
		telemetry.RequestFrom(r.Context()).Route = e.route.Path
		span := trace.SpanFromContext(r.Context())
		span.SetName(e.route.Method + " " + e.route.Path)
		span.SetAttributes(attribute.String("http.route", e.route.Path))

		if err := validate(r, e.op, c.body); err != nil {
			Problem(w, r, err)
			return
		}
		if r.Method == http.MethodPost && r.Header.Get(idempotencyKey) != "" {
			s.once(w, r, e.next)
			return
		}
		e.next.ServeHTTP(w, r)
	})
}

// serve takes a request from its arrival to its operation.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{module: "none", route: "none", peer: r.Context(), began: time.Now()}
	ctx, cancel := context.WithTimeout(withCall(r.Context(), c), s.allowed(r))
	defer cancel()
	r = stripTenant(r.WithContext(ctx))
	w.Header()["Api-Version"] = s.version
	sw := &telemetry.StatusWriter{ResponseWriter: w}
	defer func() {
		if errors.Is(telemetry.RequestFrom(ctx).Err, problem.Stale) {
			s.metrics.rejected.WithLabelValues(rejectStale).Inc()
		}
		took := c.took()
		s.metrics.observe(c, r.Method, sw.Status(), took)
		s.meter.Count(c.tenant, took)
		if s.told != nil {
			s.told(took)
		}
	}()
	defer func() {
		if cause := recover(); cause != nil {
			recovered(sw, r, cause)
		}
	}()
	if reason, err := s.enter(sw, r, c); err != nil {
		if reason != "" {
			s.metrics.rejected.WithLabelValues(reason).Inc()
		}
		Problem(sw, r, err)
		return
	}
	s.mux.ServeHTTP(sw, r)
}

// allowed is the time for a request: the cell's own bound, or less where the
// router has less left. A word that did not come from a router can only make it
// shorter, for the one who sent it.
func (s *Server) allowed(r *http.Request) time.Duration {
	if left, ok := token.ParseTimeLeft(r.Header.Get(token.TimeLeftHeader)); ok {
		return min(s.timeout, left)
	}
	return s.timeout
}

// enter checks who asks and how much, before anything is done for it.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, c *call) (reason string, err error) {
	if reason, err = s.gate.admit(r, c); err != nil {
		return reason, err
	}
	if err = s.limiter.allow(r.Context(), c.tenant, w.Header()); err != nil {
		return rejectRate, err
	}
	c.body, err = readBody(w, r, s.maxBody)
	return "", err
}

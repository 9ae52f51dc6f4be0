// Package server serves a directory over HTTP, by the contract in openapi.yaml:
// the document decides which operations exist, who may call them and what a
// request may hold. Errors are RFC 9457 problem documents.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// Options say what is served and to whom. Directory, Keys and Registry are required.
type Options struct {
	Directory directory.Directory
	Rollouts  directory.Rollouts    // nil: there are none, and none can be made
	Keys      token.Keys            // check bearers' tokens and sign tenants'
	Registry  prometheus.Registerer // gets the server's metrics
	Signup    bool                  // POST /signup is open
	// SignupsPerMinute bounds sign-ups from one address; as many may come at
	// once. 0 is 600.
	SignupsPerMinute int
	// TenantsPerMinute bounds the tenants that one caller creates; as many may come
	// at once, and all who sign up are one caller. 0 is 6000.
	TenantsPerMinute int
	TokenTTL         time.Duration // of a new tenant's first token; 0 is 30 days
	// Stopping ends the waits of long polls when it ends: they answer at once, so
	// that the process can stop and routers go on with another one. nil never does.
	Stopping context.Context
	Now      func() time.Time // the clock for tokens; nil is time.Now
	// Schema is the number of the newest migration that the record has; nil tells none.
	Schema func(context.Context) (int64, error)
}

// A Server is the HTTP API. It is safe for concurrent use.
type Server struct {
	Options
	mux     http.Handler
	version []string // of the contract, in each answer
	metrics *metrics
	table   tableCache
	signups *limiter // by address
	creates *limiter // by caller
}

// New makes a Server. It fails where contract and handlers differ or a metric is
// registered already.
func New(o Options) (*Server, error) {
	if o.Directory == nil || len(o.Keys) == 0 || o.Registry == nil {
		return nil, errors.New("serve directory: no directory, key or registry")
	}
	if o.TokenTTL <= 0 {
		o.TokenTTL = 30 * 24 * time.Hour
	}
	if o.SignupsPerMinute <= 0 {
		o.SignupsPerMinute = 600
	}
	if o.TenantsPerMinute <= 0 {
		o.TenantsPerMinute = 6000
	}
	if o.Stopping == nil {
		o.Stopping = context.Background()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{Options: o, signups: newLimiter(o.SignupsPerMinute), creates: newLimiter(o.TenantsPerMinute)}
	var err error
	if s.metrics, err = newMetrics(o.Registry, o.Directory, o.Rollouts); err != nil {
		return nil, err
	}
	all, err := endpoints(s.handlers())
	if err != nil {
		return nil, err
	}
	s.mux, s.version = s.routes(all), []string{all[0].op.Spec.Info.Version}
	return s, nil
}

// handlers are the operations of the contract, by id.
func (s *Server) handlers() map[string]handler {
	return map[string]handler{
		"addCell": s.addCell, "listCells": s.listCells, "getCell": s.getCell, "removeCell": s.removeCell,
		"heartbeat": s.heartbeat, "setCellState": s.setCellState,
		"createTenant": s.createTenant, "listTenants": s.listTenants, "getTenant": s.getTenant,
		"updateTenant": s.updateTenant, "deleteTenant": s.deleteTenant, "placeTenant": s.placeTenant,
		"issueToken": s.issueToken, "signup": s.signup,
		"addKey": s.addKey, "listKeys": s.listKeys, "revokeKey": s.revokeKey, "revokeToken": s.revokeToken, "getCredentials": s.getCredentials,
		"takeClaim": s.takeClaim, "findClaim": s.findClaim, "releaseClaim": s.releaseClaim,
		"getTable": s.getTable, "getChanges": s.getChanges, "getWatermark": s.getWatermark, "getAudit": s.getAudit,
		"getVersion": s.getVersion,
		"createMove": s.createMove, "listMoves": s.listMoves, "getMove": s.getMove,
		"askMove": s.askMove, "leaseMove": s.leaseMove, "restMove": s.restMove, "advanceMove": s.advanceMove,
		"getRehearsal": s.getRehearsal, "leaseRehearsal": s.leaseRehearsal, "endRehearsal": s.endRehearsal,
		"witness": s.witness, "abortMoves": s.abortMoves,
		"listDeletions": s.listDeletions, "tellDeletion": s.tellDeletion, "hurryDeletion": s.hurryDeletion,
		"reportLoad": s.reportLoad, "getLoad": s.getLoad,
		"createRollout": s.createRollout, "listRollouts": s.listRollouts, "getRollout": s.getRollout, "askRollout": s.askRollout,
	}
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Api-Version"] = s.version
	if r.ContentLength != 0 {
		arriveBy(w, time.Now().Add(bodyTime)) // also what nobody reads: net/http does, before it answers
	}
	s.mux.ServeHTTP(w, r)
}

// bodyTime is how long a body may take to arrive: anyone may send one, and what comes byte by
// byte would hold a connection for days.
const bodyTime = 10 * time.Second

// arriveBy bounds the reading of w's request; the zero time does not.
func arriveBy(w http.ResponseWriter, end time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(end) // a writer without deadlines is a test's
}

// maxBody bounds a request's body in bytes; nothing in the contract is larger, but
// for a list of changes that is rolled out.
const maxBody = 64 << 10

// serve is an endpoint as a handler: who calls, is the request in order, answer.
func (s *Server) serve(e endpoint) http.Handler {
	return s.measure(e.op.Path, func(w http.ResponseWriter, r *http.Request) error {
		r, by, err := s.admit(r, e.allow)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience(e.op.Operation.OperationID))
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, bodyOf(e.op.Operation.OperationID))
		if err := validate(r, e.op); err != nil {
			return err
		}
		arriveBy(w, time.Time{}) // it has; later net/http would take the deadline for the peer's hanging up
		if err := s.onlyItself(r, e.op.Operation.OperationID, by); err != nil {
			return err
		}
		err = e.handle(w, r)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return problem.Wrap(problem.Timeout, err, "the directory took too long")
		}
		return err
	})
}

// bodyOf is how many bytes an operation's body may have.
func bodyOf(operation string) int64 {
	if operation == "createRollout" {
		return 16 * maxBody
	}
	return maxBody
}

// patience is how long an operation may take.
func patience(operation string) time.Duration {
	switch operation {
	case "getChanges", "getCredentials":
		return longestWait + 10*time.Second
	case "getTable":
		return time.Minute
	}
	return 10 * time.Second
}

// clientGone is the status, known from nginx, under which log and metrics show a
// request whose caller did not wait for the answer.
const clientGone = 499

// refuse answers every request with an error.
func (s *Server) refuse(route string, err error) http.Handler {
	return s.measure(route, func(http.ResponseWriter, *http.Request) error { return err })
}

// measure gives a request its place in log and metrics, and an error its answer.
func (s *Server) measure(route string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		telemetry.RequestFrom(r.Context()).Route = route
		sw := &telemetry.StatusWriter{ResponseWriter: w}
		switch err := h(sw, r); {
		case err == nil:
		case r.Context().Err() != nil && !errors.Is(err, os.ErrDeadlineExceeded): // a body that is late ends it, too
			sw.WriteHeader(clientGone)
		default:
			telemetry.Problem(sw, r, "directory", err)
		}
		s.metrics.observe(route, r.Method, sw.Status(), time.Since(start))
	})
}

// reply answers with v as JSON.
func reply(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the peer is gone; nobody is left to tell
	return nil
}

// done answers that there is nothing to say.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// answer replies with v unless there is an error.
func answer[T any](w http.ResponseWriter, status int, v T, err error) error {
	if err != nil {
		return err
	}
	return reply(w, status, v)
}

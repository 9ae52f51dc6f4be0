package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// Prefix is where a cell's admin listener serves the transfer endpoint.
const Prefix = "/transfer/v1/"

// AskHeader is a pull's, for Request.Ask.
const AskHeader = "Source-Authorization"

// RowsType is the media type of a round.
const RowsType = "application/vnd.cellway.rows"

// A Request is what every call of the endpoint carries: the move, and what the
// call needs besides.
type Request struct {
	Move
	Unmeasured bool                       `json:"unmeasured,omitempty"` // preflight: how much the tenant has is not asked for
	WaitMS     int64                      `json:"wait_ms,omitempty"`    // how long a step waits for the tenant's transactions
	Since      string                     `json:"since,omitempty"`      // rows: the snapshot that the target has
	KeysSince  int64                      `json:"keys_since,omitempty"` // keys: the version that the target has
	SourceURL  string                     `json:"source_url,omitempty"` // pull: the source cell's admin listener
	Final      bool                       `json:"final,omitempty"`      // pull, rows, keys: as the source is when it is frozen, and not before; nothing follows
	Keys       map[string]json.RawMessage `json:"keys,omitempty"`       // kept: by table, the keys that are left out

	// pull: what this cell is to show the source, so that it need show nothing of its own. It
	// travels in a header.
	Ask string `json:"-"`

	// preflight, and pull where Final: the last round is asked for before the freeze. A cell of
	// before that took what came then for the last one; it refuses a member that it does not know.
	AsksEarly bool `json:"asks_early,omitempty"`
}

// target is the step of the side that receives.
func (r Request) target() Step {
	return Step{Move: r.ID, Tenant: r.Tenant, Epoch: r.Base + 1, Undo: r.Undoes != ""}
}

// A Server is a cell's transfer endpoint: what movers ask of the cell, and where
// another cell, the target of a move, fetches a tenant's rows.
type Server struct {
	Steps  *Steps
	Source *Source
	Target *Target
	Purger *Purger
	Redis  *Keys // nil moves no keys of Redis
	Pool   *pgxpool.Pool
	Keys   token.Keys   // the movers' public ones
	Client *http.Client // for the source cell
	Log    *slog.Logger

	taken   time.Duration // in place of frameTaken, for tests
	look    Preflight
	freezes freezes
}

// A call answers one request with a body, nil being 204.
type call func(ctx context.Context, r Request) (any, error)

// Handler serves the endpoint under Prefix.
func (s *Server) Handler() http.Handler {
	done := func(f func(context.Context, Move) error) call {
		return func(ctx context.Context, r Request) (any, error) { return nil, f(ctx, r.Move) }
	}
	waiting := func(f func(context.Context, Move, time.Duration) error) call {
		return func(ctx context.Context, r Request) (any, error) {
			return nil, f(ctx, r.Move, time.Duration(max(1, r.WaitMS))*time.Millisecond)
		}
	}
	mux := http.NewServeMux()
	for name, f := range map[string]call{
		"reserve": done(s.Steps.Reserve), "activate": done(s.Steps.Activate), "retire": done(s.Steps.Retire),
		"release": done(s.Steps.Release), "discard": done(s.Steps.Discard),
		"arm": waiting(s.Steps.Arm), "freeze": waiting(s.freeze), "disarm": waiting(s.Steps.Disarm),
		"fence": s.fence, "pull": s.pull, "coming": s.coming, "received": s.received, "purge": s.purge, "forget": s.forget,
		"preflight": s.preflight, "verify": s.verify, "digest": s.digest, "unchanged": s.unchanged, "kept": s.kept,
	} {
		mux.Handle("POST "+Prefix+name, s.guard(token.Mover, s.answer(f)))
	}
	mux.Handle("POST "+Prefix+"keys", s.guard(token.Cell, s.answer(s.keys)))
	mux.Handle("POST "+Prefix+"rows", s.guard(token.Cell, http.HandlerFunc(s.rows)))
	return telemetry.HTTP(s.Log, "cell", true, mux)
}

// Bounds of a request's body: maxKept of one that names every key that has
// changed, maxRequest of the others.
const (
	maxRequest = 64 << 10
	maxKept    = 64 << 20
)

func read(w http.ResponseWriter, r *http.Request) (Request, error) {
	var req Request
	limit := int64(maxRequest)
	if r.URL.Path == Prefix+"kept" {
		limit = maxKept
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, problem.Wrap(problem.Invalid, err, "the body is not a request of the transfer endpoint")
	}
	if req.Tenant <= 0 || (req.ID == "") != (req.Base == 0) {
		return req, problem.New(problem.Invalid, "tenant, move and base_epoch must be given")
	}
	if only, ok := r.Context().Value(heldTo{}).(directory.MoveID); ok && only != req.ID {
		return req, problem.New(problem.Forbidden, "the token is for move %q", only)
	}
	req.Ask = strings.TrimPrefix(r.Header.Get(AskHeader), "Bearer ")
	return req, nil
}

func (s *Server) answer(f call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := read(w, r)
		var body any
		if err == nil {
			body, err = f(r.Context(), req)
		}
		switch {
		case err != nil:
			telemetry.Problem(w, r, "cell", fence.Refusal(err))
		case body == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body) // the peer is gone; nobody is left to tell
		}
	})
}

// pull brings this cell, the target, up to the source's present; the last round, to what
// the source is when it is frozen, for which it waits.
func (s *Server) pull(ctx context.Context, r Request) (_ any, err error) {
	have, err := s.Target.Received(ctx, r.target())
	if err == nil && have.Final {
		err = s.keysAgain(ctx, r)
	}
	if err != nil || have.Final {
		return have, err
	}
	keys := s.startKeys(ctx, r, have.Round <= 0 && !r.Final)
	rows := s.askRows(ctx, r, have.Snapshot)
	var got Received
	defer func() {
		rows.close() // the source need not wait for the keys
		keys(err == nil, got.Took)
	}()
	stream := io.Reader(rows)
	if have.Snapshot == "" && !r.Final {
		c, err := s.Target.pace.copying(ctx, rows)
		if err != nil {
			return nil, err
		}
		defer c.done()
		stream = c
	}
	got, err = s.Target.Apply(ctx, r.target(), r.Final, stream)
	switch {
	case err == nil:
		return got, nil
	case rows.told == nil:
		return nil, s.outrun(ctx, r, have, err)
	}
	err = rows.told
	if p, ok := errors.AsType[*problem.Error](err); ok && p.Extra["snapshot"] == "void" {
		err = s.Target.beginAnew(ctx, r.target(), r.Undoes, have)
	}
	return nil, fmt.Errorf("source cell %s: %w", r.Source, err)
}

// outrun is err, unless another pull has brought what this one was about to: that of a
// mover that is gone may go on beside its successor's. Then it is Unavailable: ask again.
func (s *Server) outrun(ctx context.Context, r Request, had Received, err error) error {
	if !errors.Is(err, problem.Conflict) {
		return err
	}
	if have, read := s.Target.Received(ctx, r.target()); read != nil || have.Snapshot == had.Snapshot {
		return err
	}
	return problem.Wrap(problem.Unavailable, err, "another pull was quicker")
}

func (s *Server) received(ctx context.Context, r Request) (any, error) {
	return s.Target.Received(ctx, r.target())
}

func (s *Server) fence(ctx context.Context, r Request) (any, error) {
	return s.Steps.Fence(ctx, r.Tenant)
}

// purge removes the rows and keys of a tenant whose fence here is a tombstone of the move.
func (s *Server) purge(ctx context.Context, r Request) (any, error) {
	n, err := s.Purger.Rows(ctx, r.target())
	if err == nil {
		err = s.purgeKeys(ctx, r)
	}
	return map[string]int64{"rows": n}, err
}

// forget removes the keys that were noted for a tenant that is not armed.
func (s *Server) forget(ctx context.Context, r Request) (any, error) {
	n, err := s.Purger.Keys(ctx, r.Tenant)
	return map[string]int64{"keys": n}, err
}

func (s *Server) digest(ctx context.Context, r Request) (any, error) {
	return Digests(ctx, s.Pool, r.Tenant)
}

// preflight waits for a place to measure a tenant before it takes a connection. No move waits
// for a rehearsal: those leave it a place.
func (s *Server) preflight(ctx context.Context, r Request) (any, error) {
	if r.Unmeasured {
		return s.look.Report(ctx, s.Pool, r.Tenant, false)
	}
	if strings.HasPrefix(string(r.ID), directory.RehearsalIDs) {
		if err := s.Source.asking.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer s.Source.asking.Release(1)
	}
	if err := s.Source.sizing.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.Source.sizing.Release(1)
	return s.look.Report(ctx, s.Pool, r.Tenant, true)
}

func (s *Server) verify(ctx context.Context, r Request) (any, error) {
	f, err := Verify(ctx, s.Pool, r.target())
	return map[string][]Finding{"findings": f}, err
}

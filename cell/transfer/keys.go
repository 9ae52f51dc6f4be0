package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/infra/problem"
)

// How long a round gives the tenant's keys in Redis, from when its rows began to come:
// the last one, from the freeze. It does not wait for a Redis that fails: the move goes on
// without.
const (
	keysFirst = 30 * time.Second       // outside the pause: the copy, and the round after it
	keysLater = 100 * time.Millisecond // above all the last, inside the pause
)

// maxKeysAnswer bounds a page as JSON: values are base64 there.
const maxKeysAnswer = 4 << 20

// Keys are the Redis side of a cell's moves.
type Keys struct {
	Keep *keep.Keep
	Wait time.Duration // of a round, except the first; NewKeys sets 100 ms
	log  *slog.Logger
	lost prometheus.Counter
}

// NewKeys makes the Redis side of moves.
func NewKeys(k *keep.Keep, log *slog.Logger) *Keys {
	return &Keys{Keep: k, Wait: keysLater, log: log, lost: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "move_keys_lost_total",
		Help: "Last rounds into this cell that went on without all of the tenant's Redis keys, because a Redis did not answer in time.",
	})}
}

// Register adds the metrics to reg.
func (k *Keys) Register(reg prometheus.Registerer) { reg.MustRegister(k.lost) }

// keep is the move as the keys know it.
func (m Move) keep() keep.Move { return keep.Move{ID: m.ID, Tenant: m.Tenant, Epoch: m.Base + 1} }

// keys answers, at the source, with a page of the tenant's keys that changed. Where
// the tenant is frozen for the move, late writes are shut out first.
func (s *Server) keys(ctx context.Context, r Request) (any, error) {
	if r.Final {
		if err := s.awaitFreeze(ctx, r); err != nil {
			return nil, err
		}
	}
	f, err := s.Steps.Fence(ctx, r.Tenant)
	if err != nil {
		return nil, err
	}
	frozen := f.State == fence.Frozen && f.Epoch == r.Base+1
	armed := f.State == fence.Active && f.Epoch == r.Base && f.Capture
	if f.Move != string(r.ID) || (!frozen && !armed) {
		return nil, problem.New(problem.Conflict, "tenant %d is not armed for move %s", r.Tenant, r.ID)
	}
	if s.Redis == nil {
		return nil, problem.New(problem.Unavailable, "this cell moves no keys")
	}
	return s.Redis.Keep.Changes(ctx, r.keep(), r.KeysSince, frozen)
}

// startKeys brings the tenant's keys up to the source's present while the rows are
// brought; the function returned, told whether the rows are stored and how long that
// took, waits for that, and not for long. What fails is logged, and does not end the
// move: Redis is not the authority.
func (s *Server) startKeys(ctx context.Context, r Request, first bool) (wait func(stored bool, took time.Duration)) {
	if s.Redis == nil {
		return func(bool, time.Duration) {}
	}
	bound := s.Redis.Wait
	if first {
		bound = max(bound, keysFirst)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.pullKeys(ctx, r) }() // ends with ctx
	return func(stored bool, took time.Duration) {
		defer cancel()
		if !stored {
			return
		}
		err := arrived(done, bound-took)
		if err == nil {
			return
		}
		if r.Final {
			s.Redis.lost.Inc()
		}
		s.Redis.log.WarnContext(ctx, "the move goes on without all of the tenant's redis keys",
			"tenant", r.Tenant, "move", r.ID, "final", r.Final, "error", err)
	}
}

// keysAgain brings the tenant's keys in a last round that is asked for again, once its rows
// are here: whoever stored those may have been killed, or its mover, before the keys had come.
// Nothing is brought to a tenant that is served here. The error says that this could not be told.
func (s *Server) keysAgain(ctx context.Context, r Request) error {
	if !r.Final {
		return nil
	}
	f, err := fence.Get(ctx, s.Pool, r.Tenant)
	if err == nil && f.State == fence.Incoming && f.Move == string(r.ID) {
		s.startKeys(ctx, r, false)(true, 0)
	}
	return err
}

// arrived is what done says, if it does within d. What is there already counts also where
// the time is over: rows may take longer than the keys are given.
func arrived(done <-chan error, d time.Duration) error {
	select {
	case err := <-done:
		return err
	default:
	}
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case err := <-done: // soon, where its context has ended
		return err
	case <-late.C:
		return context.DeadlineExceeded
	}
}

// pullKeys asks the source, page by page, for what changed since the version that
// is here. What is of an earlier stay goes first: a value that does not come is one that is
// missed, and an old one would set the tenant back.
func (s *Server) pullKeys(ctx context.Context, r Request) error {
	m := r.keep()
	since, err := s.Redis.Keep.Begin(ctx, m)
	if err != nil {
		return err
	}
	if since == 0 {
		if err := s.Redis.Keep.Clear(ctx, m); err != nil {
			return err
		}
	}
	for {
		p, err := s.askKeys(ctx, Request{Move: r.Move, KeysSince: since, Final: r.Final, Ask: r.Ask}, r.SourceURL)
		if err != nil {
			return err
		}
		if r.Final && !p.Final {
			return problem.New(problem.Conflict, "the source is not frozen")
		}
		if err := s.Redis.Keep.Apply(ctx, m, p); err != nil {
			return err
		}
		if since = p.Reached; !p.More {
			return nil
		}
	}
}

func (s *Server) askKeys(ctx context.Context, r Request, url string) (p keep.Page, err error) {
	resp, err := s.ask(ctx, url, "keys", r)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("source cell %s: %w", r.Source, problem.Said(resp, problem.Unavailable))
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxKeysAnswer)).Decode(&p); err != nil {
		return p, fmt.Errorf("read keys of source cell %s: %w", r.Source, err)
	}
	return p, nil
}

// ask posts r to the source cell's endpoint; the caller closes the answer's body.
func (s *Server) ask(ctx context.Context, url, name string, r Request) (*http.Response, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+Prefix+name, bytes.NewReader(body))
	if err != nil {
		return nil, problem.Wrap(problem.Invalid, err, "source_url is not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+r.Ask)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, problem.Wrap(problem.Unavailable, err, fmt.Sprintf("source cell %s does not answer", r.Source))
	}
	return resp, nil
}

// purgeKeys removes what the tenant left in Redis. The rows are gone by then and the fence holds. Where Redis does not
// answer it is asked again, by a mover that comes back: durable keys have no end of their own, and whoever deletes the tenant
// elsewhere does not know of them.
func (s *Server) purgeKeys(ctx context.Context, r Request) error {
	if s.Redis == nil {
		return nil
	}
	f, err := fence.Get(ctx, s.Pool, r.Tenant)
	if err == nil && f.State == fence.Moved { // at a later epoch than the move's where an undo was aborted
		err = s.Redis.Keep.Purge(ctx, r.Tenant, f.Epoch)
	}
	if err != nil {
		return problem.Wrap(problem.Unavailable, err, fmt.Sprintf("the keys of tenant %d in Redis were not removed", r.Tenant))
	}
	return nil
}

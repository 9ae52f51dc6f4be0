package router

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/table"
)

// deliver brings the request to the owning cell. If that cell knows a newer
// epoch, it did nothing: the request waits for a newer table and is repeated,
// once, unless its body is longer than what is kept of it.
func (rt *Router) deliver(w http.ResponseWriter, r *http.Request, x *exchange) error {
	waits, cancel := context.WithTimeout(r.Context(), 2*rt.Hold.Time)
	defer cancel()
	if x.plan == nil {
		if err := rt.settle(waits, r, x, nil); err != nil {
			return err
		}
	}
	began := time.Now()
	b, err := readBody(w, r, x.maxBody)
	x.upload += time.Since(began)
	if err == nil {
		err = rt.inspect(r, x, b)
	}
	if err != nil {
		return err
	}
	err = rt.attempt(w, r, x, b)
	if !errors.Is(err, problem.Stale) {
		return err
	}
	x.plan = nil // what is sent next is no flight
	if !b.rewind() {
		rt.metrics.repeats.WithLabelValues("body_lost").Inc()
		return moving(err, "the tenant has moved while the body was sent")
	}
	again, cancel := context.WithTimeout(r.Context(), 2*rt.Hold.Time) // since then the body has come, which may take long
	defer cancel()
	if err := rt.awaitNewer(again, r, x, b, err); err != nil {
		rt.metrics.repeats.WithLabelValues("no_newer_table").Inc()
		return err
	}
	err = rt.attempt(w, r, x, b)
	if errors.Is(err, problem.Stale) {
		rt.metrics.repeats.WithLabelValues("still_stale").Inc()
		return moving(err, "the tenant is moving")
	}
	rt.metrics.repeats.WithLabelValues("ok").Inc()
	return err
}

// attempt sends the request once to where x says.
func (rt *Router) attempt(w http.ResponseWriter, r *http.Request, x *exchange, b *body) error {
	if err := rt.stillServed(x); err != nil {
		return err
	}
	e, now := x.entry, time.Now()
	assertion, err := rt.assertions.Of(e, now)
	if err == nil && x.kept {
		err = rt.bearers.Authorize(r, x.claims, e.Cell, now)
	}
	if err != nil {
		return err
	}
	if err := front.Arrived(r.Context(), b.whole); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	timer := time.AfterFunc(rt.CellTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	err = rt.Forwarder.Forward(w, b.attach(r.WithContext(ctx)), Target{
		Entry: e, Assertion: assertion, Deadline: time.Now().Add(rt.CellTimeout),
		Streams: func(end func(h1.Ending)) (done func()) {
			timer.Stop()
			return rt.streams.Add(rt.Table, e.Placement, x.shown, end)
		},
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, h1.ErrSlow):
		return err
	case clientLeft(r):
		return context.Canceled // whatever the cell then did is no fault of its own
	case b.failed(err) != nil:
		return b.failed(err)
	case errors.Is(err, problem.AssertionRefused):
		rt.metrics.distrusted.WithLabelValues(string(e.Cell)).Inc()
	}
	return err
}

// stillServed is what a request's head would be refused with by now: since it was let in,
// its body or a newer table may have been long in coming, and cells know neither of
// revocations nor of suspensions. A flight was sent already.
func (rt *Router) stillServed(x *exchange) error {
	if x.plan != nil {
		return nil
	}
	if err := rt.Chain.StillCounts(x.shown); err != nil {
		return err
	}
	latest, _ := rt.Table.View().ByID(x.entry.Tenant)
	_, err := verdict(latest)
	return err
}

// settle waits until the tenant may be forwarded to x's cell, or says why not.
// b is what is kept in memory meanwhile.
func (rt *Router) settle(ctx context.Context, r *http.Request, x *exchange, b *body) error {
	for {
		v, err := verdict(x.entry)
		if err != nil || v == Forward && !rt.holds.waiting(x.entry) {
			return err
		}
		if err := rt.hold(ctx, r, x, b, false); err != nil {
			return err
		}
	}
}

// awaitNewer waits, after a cell's refusal, for a table that places the tenant
// otherwise than x has it, and asks the directory for one.
func (rt *Router) awaitNewer(ctx context.Context, r *http.Request, x *exchange, b *body, refusal error) error {
	frozen, after := undecided(refusal, x.entry), time.Duration(0)
	if frozen {
		after = refreshLater
	}
	rt.refresh(after)
	if err := rt.hold(ctx, r, x, b, frozen); err != nil {
		return err
	}
	return rt.settle(ctx, r, x, b)
}

// hold waits until the table places the tenant otherwise than x has it, and
// gives x the new placement.
func (rt *Router) hold(ctx context.Context, r *http.Request, x *exchange, b *body, frozen bool) error {
	began := time.Now()
	next, err := rt.holds.wait(ctx, rt.Table, x.entry, frozen, cost(r, b))
	x.wait(time.Since(began))
	if err != nil {
		if clientLeft(r) {
			return context.Canceled
		}
		return err
	}
	x.send(next)
	return nil
}

// cost is about how much memory a request takes while it is held.
func cost(r *http.Request, b *body) int64 {
	n := int64(1 << 10) // goroutine's share, structs
	for name, values := range r.Header {
		for _, v := range values {
			n += int64(len(name) + len(v))
		}
	}
	if b != nil {
		n += int64(len(b.prefix))
	}
	return n
}

// refreshLater is how long a frozen tenant's decision is waited for before the directory
// is asked whether it was missed. To ask it at once would only keep it from deciding.
const refreshLater = 50 * time.Millisecond

// undecided reports whether a cell refuses because it is frozen for the next placement:
// what the directory decides then, it tells without being asked.
func undecided(refusal error, e table.Entry) bool {
	p, ok := errors.AsType[*problem.Error](refusal)
	return ok && p.Extra["state"] == "frozen" && p.Extra["epoch"] == strconv.FormatInt(int64(e.Epoch)+1, 10)
}

// refresh starts bringing the table up to date after a while, unless that is under way or
// nobody waits any more. Who waits for the table hears of it by the table.
func (rt *Router) refresh(after time.Duration) {
	if rt.Refresh == nil {
		return
	}
	rt.wg.Go(func() {
		_, err, _ := rt.refreshing.Do(after.String(), func() (any, error) {
			ctx, cancel := context.WithTimeout(rt.background, after+rt.Hold.Time)
			defer cancel()
			if !run.Pause(ctx, after) || after > 0 && !rt.holds.anybody.Load() {
				return nil, nil
			}
			return nil, rt.Refresh(ctx)
		})
		if err != nil && rt.background.Err() == nil {
			rt.Log.WarnContext(rt.background, "table not refreshed", "error", err)
		}
	})
}

// A Target is where a request goes, and the proof that we send it.
type Target struct {
	table.Entry
	Assertion string
	Deadline  time.Time // by which the cell must have answered: it is told the time left
	// Streams is told when the answer is an event stream or a WebSocket: from then on the request
	// has no deadline. end is called, once at most, when the stream must end for the
	// client to connect again; done says that it has ended, whatever the cause.
	Streams func(end func(h1.Ending)) (done func())
}

// A Forwarder sends a request to a cell and relays the answer. Proxy implements
// it over net/http.
type Forwarder interface {
	// Forward sends r. An error means that nothing was written to w: Stale where
	// the cell knows a newer epoch and did nothing, CellUnavailable where it does
	// not answer (whether it did something is not known), BadGateway where what it
	// answers is not HTTP. Once an answer has begun and cannot be finished,
	// Forward panics with http.ErrAbortHandler, so that the client sees it cut.
	// An event stream is relayed piece by piece, as long as to.Streams lets it.
	Forward(w http.ResponseWriter, r *http.Request, to Target) error
}

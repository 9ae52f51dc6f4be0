package cell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

// source names this process in problem documents.
const source = "cell"

// retrySoon is what a caller is told to wait when the cause is expected to pass.
const retrySoon = time.Second

// Problem answers with err: as the problem it is, or as what its cause means to a
// caller. The text of other errors is logged and not sent.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	err = classify(halfDone(r, err))
	if r.Method == http.MethodHead { // the answer to which has no document
		w.Header().Set(token.RefusalHeader, string(problem.KindOf(err)))
	}
	telemetry.Problem(w, r, source, err)
}

// BadRequest answers what the contract has let through and Go's types do not take, as an
// integer that is too large.
func BadRequest(w http.ResponseWriter, r *http.Request, err error) {
	Problem(w, r, problem.Wrap(problem.Invalid, err, "the request does not fit its contract"))
}

// halfDone is what the fence's refusal means to a caller whose request has committed
// something before: a router would take it for "nothing was done" and send the request again.
func halfDone(r *http.Request, err error) error {
	c := callFrom(r.Context())
	if c == nil || !c.committed.Load() || r.Method == http.MethodGet || r.Method == http.MethodHead || !errors.Is(err, problem.Stale) {
		return err
	}
	return again(problem.Unavailable, err, "the tenant was moved while the request was under way: a part of it was done")
}

// classify gives errors of the database and of deadlines a kind.
func classify(err error) error {
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[problem.Kind](err); ok {
		return err
	}
	switch code := pg.Code(err); {
	case errors.Is(err, context.Canceled):
		return problem.Wrap(problem.Invalid, err, "the caller went away") // no fault of the cell's, and nobody reads it
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), pgconn.Timeout(err):
		return problem.Wrap(problem.Timeout, err, "the cell did not finish in time")
	case code == pg.SerializationFailure, code == pg.DeadlockDetected, code == pg.LockNotAvailable:
		return again(problem.Conflict, err, "another request got in between; repeat")
	case unreachable(err), code == pg.ReadOnly, len(code) == 5 && (code[:2] == "08" || code[:2] == "53" || code[:2] == "58" || code[:3] == "57P"):
		return again(problem.Unavailable, err, "the cell's database is not available")
	}
	return err
}

// unreachable reports whether err comes from the connection to the database.
func unreachable(err error) bool {
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[*net.OpError](err)
	return refused || network || pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

func again(kind problem.Kind, cause error, detail string) error {
	e := problem.Wrap(kind, cause, detail)
	e.RetryAfter = retrySoon
	return e
}

// recovered answers a panic with 500. Once the answer has begun all that is left
// is to cut it off, so that the peer does not take it for whole.
func recovered(w *telemetry.StatusWriter, r *http.Request, cause any) {
	if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this too
		panic(cause)
	}
	err := panicError(cause)
	telemetry.RequestFrom(r.Context()).Err = err
	if w.Bytes > 0 {
		panic(http.ErrAbortHandler)
	}
	telemetry.Problem(w, r, source, err)
}

// panicError keeps the stack for the log line; it has no kind, so none of it is sent.
func panicError(cause any) error { return fmt.Errorf("panic: %v\n%s", cause, debug.Stack()) }

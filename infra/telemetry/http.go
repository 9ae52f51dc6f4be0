package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/infra/problem"
)

// RequestIDHeader carries the id that all processes log for one request.
const RequestIDHeader = "X-Request-Id"

type requestKey struct{}

// A Request collects, while a request is served, what its one log line says.
// Handlers below the middleware fill it in; it is not for concurrent use.
type Request struct {
	ID       string
	Tenant   string
	Cell     string
	Epoch    int64
	UserHash string
	Route    string
	Held     time.Duration
	Err      error // logged, never sent
}

// RequestFrom is the Request of ctx, or a fresh one that nobody logs.
func RequestFrom(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return &Request{}
}

// RequestID is the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string { return RequestFrom(ctx).ID }

// HashUser makes a user's name fit for a log: stable, and not reversible by reading.
func HashUser(user string) string { return string(AppendUser(nil, user)) }

// AppendUser appends what HashUser is. For names of usual length it allocates nothing.
func AppendUser(dst []byte, user string) []byte {
	if user == "" {
		return dst
	}
	var b [128]byte
	sum := sha256.Sum256(append(append(b[:0], "cellway user\x00"...), user...))
	return hex.AppendEncode(dst, sum[:8])
}

// Problem answers with err, as source ("router", "cell", "directory"), and
// leaves the cause for the request's log line.
func Problem(w http.ResponseWriter, r *http.Request, source string, err error) {
	req := RequestFrom(r.Context())
	req.Err = err
	where := problem.Where{Source: source, RequestID: req.ID, Instance: r.URL.Path}
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		where.TraceID = sc.TraceID().String()
	}
	problem.Write(w, err, where)
}

// HTTP gives each request an id (the caller's, if it is printable and short), a
// Request in its context, and one log line when it ends. trust says whether the
// id of the caller is taken over. source answers where next panics.
func HTTP(log *slog.Logger, source string, trust bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &Request{}
		if trust {
			req.ID = CallersID(r.Header.Get(RequestIDHeader))
		}
		if req.ID == "" {
			req.ID = NewID()
		}
		r.Header.Set(RequestIDHeader, req.ID)
		w.Header().Set(RequestIDHeader, req.ID)
		ctx := context.WithValue(r.Context(), requestKey{}, req)
		ctx = With(ctx, "request_id", req.ID)
		sw := &StatusWriter{ResponseWriter: w}
		start := time.Now()
		defer func() { logRequest(ctx, log, r, req, sw, time.Since(start)) }()
		serve(next, sw, r.WithContext(ctx), source, req)
	})
}

// serve turns a panic into a 500 and its line in the log: the stack goes there
// and nowhere else. http.ErrAbortHandler, which closes the connection, passes.
func serve(next http.Handler, w *StatusWriter, r *http.Request, source string, req *Request) {
	defer func() {
		cause := recover()
		switch {
		case cause == nil:
			return
		case cause == http.ErrAbortHandler: //nolint:errorlint // a value of panic, never wrapped
			req.Err = http.ErrAbortHandler
			if left := r.Context().Err(); left != nil { // the client, which is no error of ours
				req.Err = left
			}
			panic(cause)
		}
		req.Err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		if w.status != 0 || w.Bytes > 0 {
			panic(http.ErrAbortHandler) // too late for an answer; half a one must not look whole
		}
		problem.Write(w, problem.Internal, problem.Where{Source: source, RequestID: req.ID, Instance: r.URL.Path})
	}()
	next.ServeHTTP(w, r)
}

func logRequest(ctx context.Context, log *slog.Logger, r *http.Request, req *Request, sw *StatusWriter, took time.Duration) {
	l := &Line{Request: *req, Method: r.Method, Path: r.URL.Path, Status: sw.Status(), Bytes: sw.Bytes, Took: took}
	attrs, level := l.fill()
	log.LogAttrs(ctx, level, "request", attrs...)
}

// CallersID is id, if a caller's may be taken over, because it is safe to log and to send
// on, or "".
func CallersID(id string) string {
	if len(id) == 0 || len(id) > 64 {
		return ""
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return ""
		}
	}
	return id
}

// NewID is a request id: unique, and no secret.
func NewID() string { return string(AppendID(nil)) }

// A StatusWriter remembers the status and the number of body bytes.
type StatusWriter struct {
	http.ResponseWriter
	Bytes  int64
	status int
}

// Status is the status sent, 200 where the handler set none.
func (w *StatusWriter) Status() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// WriteHeader remembers the final status; 1xx pass through.
func (w *StatusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (w *StatusWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.Bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach flushing and hijacking.
func (w *StatusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

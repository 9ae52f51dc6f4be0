package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// mostError bounds what one line takes of the log, whatever a client has put into an
// error's text; a panic's stack has room.
const mostError = 16 << 10

// A Line is what the log says of one request. It can be used again, and then
// logging allocates nothing.
type Line struct {
	Request
	Method, Path string
	Status       int
	Bytes        int64
	Took         time.Duration

	attrs [12]slog.Attr
}

// Log writes the line of a request that HTTP does not serve. It looks like HTTP's.
// The logger's handler must keep none of the line's strings: slog's do not.
func (l *Line) Log(log *slog.Logger) {
	attrs, level := l.fill()
	h := log.Handler()
	if c, ok := h.(contextHandler); ok {
		attrs, h = append(attrs, slog.String("request_id", l.ID)), c.Handler
	}
	if !h.Enabled(context.Background(), level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, "request", 0)
	r.AddAttrs(slog.Attr{Value: slog.GroupValue(attrs...)}) // a group without a name is written as its parts
	_ = h.Handle(context.Background(), r)                   // as slog: who logs cannot help it
}

// fill is the line's attributes, and its level.
func (l *Line) fill() ([]slog.Attr, slog.Level) {
	attrs := append(l.attrs[:0], slog.String("method", l.Method), slog.String("path", l.Path), slog.Int("status", l.Status),
		slog.Int64("bytes", l.Bytes), slog.Duration("duration", l.Took))
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("tenant", l.Tenant)
	text("cell", l.Cell)
	text("user_hash", l.UserHash)
	text("route", l.Route)
	if l.Epoch != 0 {
		attrs = append(attrs, slog.Int64("epoch", l.Epoch))
	}
	if l.Held != 0 {
		attrs = append(attrs, slog.Duration("held", l.Held))
	}
	level := slog.LevelInfo
	if l.Err != nil {
		attrs = append(attrs, slog.String("error", problem.Cut(problem.Describe(l.Err), mostError)))
		if l.Status >= 500 || errors.Is(l.Err, http.ErrAbortHandler) {
			level = slog.LevelError
		}
	}
	return attrs, level
}

// AppendID appends a new request id. It is unique, and no secret.
func AppendID(dst []byte) []byte {
	return AppendHex(AppendHex(dst, rand.Uint64(), 16), rand.Uint64(), 8) //nolint:gosec // as said
}

// AppendHex appends the last digits of n in hex.
func AppendHex(dst []byte, n uint64, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, "0123456789abcdef"[n>>(4*i)&15])
	}
	return dst
}

package h1

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// Probe asks the cell whether it speaks HTTP, on a connection of its own: with
// "OPTIONS *", which servers answer without any of their handlers. Any final
// answer will do.
func (u *Upstream) Probe(ctx context.Context) error {
	l, err := u.get(ctx, true)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = l.SetDeadline(past) })
	defer stop()
	out := AppendRequestLine(nil, http.MethodOptions, "*", u.Addr)
	out = append(AppendField(out, "Connection", "close"), "\r\n"...)
	if _, err := l.Write(out); err != nil {
		return err
	}
	var x Exchange
	x.Begin(u.Limits, false, false, false)
	x.Sent()
	buf := make([]byte, 4<<10)
	for from, to := 0, 0; ; {
		ev, _, n, f := x.Next(buf[from:to])
		from += n
		switch {
		case f != None:
			return f
		case ev == Began:
			return nil
		case ev == Interim:
			x.Passed()
			continue
		case from == 0 && to == len(buf):
			return HeadTooLarge
		}
		to = copy(buf, buf[from:to])
		from = 0
		if n, err = l.Read(buf[to:]); n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		to += n
	}
}

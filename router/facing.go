package router

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// A facing is a client as a ReverseProxy sees it: around 1xx answers what the router says stays
// and what only it may say is left out, and no byte behind an Upgrade's head is lost.
type facing struct {
	http.ResponseWriter
	ours http.Header // what the router has set
	old  bool        // the client speaks HTTP/1.0, which has no 1xx
}

// Unwrap is for http.ResponseController.
func (f *facing) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// WriteHeader implements http.ResponseWriter. A ReverseProxy adds the fields of a 1xx answer
// to those that are there, and clears all of them after it.
func (f *facing) WriteHeader(status int) {
	switch {
	case status >= http.StatusOK:
		f.restore()
	case f.old:
		return
	default:
		dropOurs(f.Header())
		for name := range f.ours {
			f.Header().Del(name)
		}
	}
	f.ResponseWriter.WriteHeader(status)
}

// restore sets again what the router has set.
func (f *facing) restore() {
	for name, values := range f.ours {
		if h := f.Header(); h[name] == nil {
			h[name] = values
		}
	}
}

// Hijack implements http.Hijacker. ReverseProxy reads on from the connection alone.
func (f *facing) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(f.ResponseWriter).Hijack()
	if err == nil && rw.Reader.Buffered() > 0 {
		early, _ := rw.Peek(rw.Reader.Buffered()) // they are there
		nc = &ahead{nc, io.MultiReader(bytes.NewReader(early), nc)}
	}
	return nc, rw, err
}

// An ahead is a connection of which some bytes were read already.
type ahead struct {
	net.Conn
	all io.Reader
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) { return a.all.Read(p) }

// CloseWrite half-closes, where the connection below can.
func (a *ahead) CloseWrite() error {
	if half, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

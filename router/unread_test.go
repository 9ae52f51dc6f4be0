package router_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// narrow makes connections whose kernel takes little.
var narrow = net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
	_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	return err
}}

// unread asks n times over an HTTP/2 connection with a window for each answer. Where that is
// not shut, nothing is read of the socket either.
func (s *secure) unread(t *testing.T, host string, tenant directory.TenantID, n, window uint32) net.Conn {
	t.Helper()
	d := tls.Dialer{NetDialer: &narrow, Config: s.clientConfig(host, "h2")}
	nc, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if window == 0 {
		go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with the connection
	}
	_, err = io.WriteString(nc, http2.ClientPreface)
	f := http2.NewFramer(nc, nc)
	if err == nil {
		err = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	}
	if err == nil && window > 0 {
		err = f.WriteWindowUpdate(0, window)
	}
	var head bytes.Buffer
	enc, bearer := hpack.NewEncoder(&head), s.token(tenant)
	for i := uint32(0); i < n && err == nil; i++ {
		head.Reset()
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", "/"}, {"authorization", bearer}} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
		}
		err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// silent asks n times on as many connections, with rest after the first fields, and then
// neither sends nor reads.
func (w *world) silent(t *testing.T, host string, tenant directory.TenantID, n int, method, rest string) (all []net.Conn) {
	t.Helper()
	for range n {
		nc, err := narrow.DialContext(t.Context(), "tcp", w.addr)
		if err == nil {
			all = append(all, nc)
			_, err = fmt.Fprintf(nc, "%s / HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n%s", method, host, w.token(tenant), rest)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
	}
	return all
}

// TestWhoReadsNothingKeepsNobodyOut, or who sends nothing: an exchange that waits for its
// client has no place among the cell's requests for long, whether there is one for slow
// clients or not. Two tenants together have no share that bounds them.
func TestWhoReadsNothingKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http does not say that it waits")
	}
	third := "third." + base
	routes := []directory.Route{{Placement: place(2, "c1", 2, directory.Active), Slug: "bolt"}, {Placement: place(5, "c1", 1, directory.Active), Slug: "third"}}
	cell := func(size int) map[directory.CellID]http.Handler {
		return map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Host != third {
				_, _ = w.Write(make([]byte, size))
			}
		})}
	}
	overHTTP2 := func(size int, window uint32) func(t *testing.T, streams int) (*world, []net.Conn) {
		return func(t *testing.T, streams int) (*world, []net.Conn) {
			s := newSecure(t, cell(size), func(l *pool.Limits) { l.Streams = streams })
			v := s.table.View().Version()
			s.apply(directory.Update{Since: v, Version: v + 1, Routes: routes})
			return s.world, []net.Conn{s.unread(t, acme, 1, 16, window), s.unread(t, bolt, 2, 16, window)}
		}
	}
	plainly := func(size int, method, rest string) func(t *testing.T, streams int) (*world, []net.Conn) {
		return func(t *testing.T, streams int) (*world, []net.Conn) {
			w := newWorld(t, cell(size), func(_ *router.Options, l *pool.Limits) { l.Streams = streams })
			v := w.table.View().Version()
			w.apply(directory.Update{Since: v, Version: v + 1, Routes: routes})
			return w, append(w.silent(t, acme, 1, 16, method, rest), w.silent(t, bolt, 2, 16, method, rest)...)
		}
	}
	const large = 16 << 20 // more than any buffer
	for name, begin := range map[string]func(t *testing.T, streams int) (*world, []net.Conn){
		"an answer that has left the cell": overHTTP2(6000, 0), // more than net/http keeps for a handler
		"an answer that has not":           overHTTP2(large, 0),
		"a socket that is not read":        overHTTP2(large, 1<<30),
		"a flight":                         plainly(large, "GET", "\r\n"),
		"a body that does not come":        plainly(0, "POST", "Content-Length: 100000\r\n\r\n"+string(make([]byte, 66<<10))),
	} {
		for _, streams := range []int{1024, 2} {
			t.Run(fmt.Sprintf("%s, %d places", name, streams), func(t *testing.T) {
				t.Parallel()
				w, clients := begin(t, streams)
				until := func(what string, is func() bool) {
					for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
						if time.Now().After(end) {
							t.Fatalf("%s: %v in flight, %v slow, %v cut", what, w.metric("router_cell_in_flight"), w.metric("router_cell_slow"), w.metric("router_cell_slow_cut_total"))
						}
					}
				}
				until("who came in is slow, or was cut", func() bool {
					slow, cut := w.metric("router_cell_slow"), w.metric("router_cell_slow_cut_total")
					return w.metric("router_cell_in_flight") == 0 && slow > 0 && (slow <= 2) == (cut > 0)
				})
				for _, c := range clients {
					_ = c.Close()
				}
				until("the places of slow clients are given back", func() bool { return w.metric("router_cell_slow") == 0 && w.metric("router_cell_in_flight") == 0 })
			})
		}
	}
}

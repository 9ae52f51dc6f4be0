package router_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/directory"
)

// unread opens an HTTP/2 connection whose window is shut, and asks n times with it.
func (s *secure) unread(t *testing.T, host string, tenant directory.TenantID, n uint32) {
	t.Helper()
	d := tls.Dialer{Config: s.clientConfig(host, "h2")}
	nc, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with the connection
	_, err = io.WriteString(nc, http2.ClientPreface)
	f := http2.NewFramer(nc, nc)
	if err == nil {
		err = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
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
}

// TestWhoReadsNothingKeepsNobodyOut: an answer that its client does not take has no place
// among the cell's requests for long, whether all of it has left the cell or not. Two tenants
// together have no share that bounds them.
func TestWhoReadsNothingKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http does not say that a write waits")
	}
	for _, size := range []int{6000, 8 << 20} { // more than net/http keeps for a handler; more than any buffer
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "third."+base {
					return
				}
				asked.Add(1)
				_, _ = w.Write(make([]byte, size))
			})})
			v := s.table.View().Version()
			s.apply(directory.Update{Since: v, Version: v + 1, Routes: []directory.Route{
				{Placement: place(2, "c1", 2, directory.Active), Slug: "bolt"}, {Placement: place(5, "c1", 1, directory.Active), Slug: "third"},
			}})
			s.unread(t, acme, 1, 16)
			s.unread(t, bolt, 2, 16)
			for end := time.Now().Add(20 * time.Second); asked.Load() == 0 || s.metric("router_cell_in_flight") != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d came to the cell, and %v have places there", asked.Load(), s.metric("router_cell_in_flight"))
				}
			}
			if slow := s.metric("router_cell_slow"); slow == 0 {
				t.Error("nobody is slow")
			}
			if a := s.ask(t, s.over(t, "third."+base, true), "GET", "third."+base, "/", nil, "Authorization", s.token(5)); a.StatusCode != 200 {
				t.Errorf("a third tenant got %d %s", a.StatusCode, a.body)
			}
		})
	}
}

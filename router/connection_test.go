package router_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// TestConnectionTakesNothingOfOurs: a client whose Connection field names what the router says
// of the request is refused, or the cell is told all the same.
func TestConnectionTakesNothingOfOurs(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	w, known := credentialed(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	ours := []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Authorization"}
	for _, name := range ours {
		a := w.do("GET", acme, "/", "", "Authorization", known.key, "Connection", name)
		if a.StatusCode == http.StatusBadRequest && len(got) == 0 {
			continue
		}
		w.want(a, http.StatusOK, "")
		h := <-got
		for _, each := range ours {
			if h.Get(each) == "" {
				t.Errorf("Connection: %s: the cell has no %s", name, each)
			}
		}
		said, err := w.tokens.For(token.OfCell("c1")).Verify(strings.TrimPrefix(h.Get("Authorization"), "Bearer "), time.Now())
		if err != nil || said.Tenant != 1 || !strings.HasPrefix(said.Subject, "key/") || h.Get("X-Request-Id") != a.Header.Get("X-Request-Id") {
			t.Errorf("Connection: %s: the cell is told %+v, %v, request %q of %q", name, said, err, h.Get("X-Request-Id"), a.Header.Get("X-Request-Id"))
		}
	}
}

// TestOnlyWebSocketsAreTunnelled: another protocol is not offered to the cell, and a cell that
// switches without being asked is cut off.
func TestOnlyWebSocketsAreTunnelled(t *testing.T) {
	t.Parallel()
	const more = "Host: " + acme + "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\n"
	for name, tt := range map[string]struct {
		line, upgrade, to string
	}{
		"what the client asks for":  {"GET / HTTP/1.1", "chat", "chat"},
		"h2c":                       {"GET / HTTP/1.1", "h2c", "h2c"},
		"several":                   {"GET / HTTP/1.1", "chat, websocket", "chat"},
		"another than was asked":    {"GET / HTTP/1.1", "websocket", "chat"},
		"a name that folds to it":   {"GET / HTTP/1.1", "websocket", "web\u017focket"},
		"a WebSocket by DELETE":     {"DELETE / HTTP/1.1", "websocket", "websocket"},
		"a WebSocket over HTTP/1.0": {"GET / HTTP/1.0", "websocket", "websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan error, 1)
			w := newWorld(t, map[directory.CellID]http.Handler{"c1": switched(tt.to, left)}, nil)
			w.want(w.first(tt.line+"\r\n"+more+"Upgrade: "+tt.upgrade+"\r\n\r\n"), http.StatusBadGateway, problem.BadGateway)
			select {
			case <-left:
			case <-time.After(20 * time.Second):
				t.Error("the cell's connection is still there")
			}
			if open := w.metric("router_streams_open"); open != 0 {
				t.Errorf("got %v open, want none", open)
			}
		})
	}
}

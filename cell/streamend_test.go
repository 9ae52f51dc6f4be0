package cell_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
)

// A stream that has been quiet for longer than a write may take, and is ended then, ends
// in order: to a router one that is cut is a fault of the cell.
func TestAQuietStreamEndsInOrder(t *testing.T) {
	t.Parallel()
	h := start(t)
	var conns sync.Map
	srv := httptest.NewUnstartedServer(h.handler)
	srv.Config.ConnState = func(c net.Conn, _ http.ConnState) { conns.Store(c, nil) }
	srv.Start()
	t.Cleanup(srv.Close)
	h.url = srv.URL
	l := h.listen(200, request{})
	conns.Range(func(c, _ any) bool { // as time does
		if err := c.(net.Conn).SetWriteDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		return true
	})
	h.db.StopStreams()
	l.wantEnd()
}

// bountiful is a module with a stream that always has more.
type bountiful struct {
	*projects.Module
	db *cell.DB
}

// Routes are the module's, but for the stream.
func (e bountiful) Routes() (http.Handler, []cell.Route) {
	next, routes := e.Module.Routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/activity/stream" {
			next.ServeHTTP(w, r)
			return
		}
		if err := e.db.Stream(r.Context(), w, cell.Place{}, plenty); err != nil {
			cell.Problem(w, r, err)
		}
	}), routes
}

func plenty(_ context.Context, _ *store.Tx, from int64) (batch []cell.Message, err error) {
	for seq := max(from, 1); seq <= from+2; seq++ {
		batch = append(batch, cell.Message{Seq: seq, Event: fmt.Sprintf("%012x", seq), Data: fmt.Appendf(nil, `{"seq":%d,"more":true}`, seq)})
	}
	return batch, nil
}

// A process that stops does not wait for clients that have much to catch up with.
func TestAStreamThatCatchesUpEndsToo(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.Modules[1] = bountiful{o.Modules[1].(*projects.Module), o.DB} })
	l := h.listen(200, request{})
	l.want(1, 2, 3, 4)
	h.db.StopStreams()
	for ok := true; ok; {
		_, ok = l.next()
	}
	if err := l.lines.Err(); err != nil {
		t.Errorf("got %v, want an orderly end", err)
	}
}

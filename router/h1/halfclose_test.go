package h1

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestWhoClosesHalfHasLeftAfterAWhile: a client may end its half of the connection behind a
// request, as nc -N does. A quick answer comes all the same; of one that is long in coming the
// cell hears that nobody waits for it, as where all of the connection was closed.
func TestWhoClosesHalfHasLeftAfterAWhile(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		left := make(chan struct{})
		f := newFront(t, stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
				close(left)
				return
			}
			_, _ = io.WriteString(w, "done")
		})), 10*patience, on)
		asked := func(path string) *wire {
			w := dial(t, f.addr)
			w.send("GET " + path + host1 + "\r\n")
			_ = w.Conn.(*net.TCPConn).CloseWrite() // it may be over
			return w
		}
		eventually(t, "an answer is there within watchAfter, and comes", func() bool {
			got, _ := io.ReadAll(asked("/quick").from)
			return strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") && strings.HasSuffix(string(got), "\r\n\r\ndone")
		})
		slow := asked("/slow")
		select {
		case <-left:
		case <-time.After(patience):
			t.Fatal("the cell goes on for nobody")
		}
		if got, _ := io.ReadAll(slow.from); strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") {
			t.Errorf("got %q of an answer that never came", got)
		}
	})
}

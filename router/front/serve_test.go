package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var errNoLoop = errors.New("make an event loop: too many open files")

// A broken engine cannot start.
type broken struct{}

func (broken) Serve(net.Listener) error       { return errNoLoop }
func (broken) Shutdown(context.Context) error { return nil }
func (broken) Close() error                   { return nil }

// TestAnEngineThatCannotStart ends Serve, which says why: the process must not go on
// without its listener.
func TestAnEngineThatCannotStart(t *testing.T) {
	t.Parallel()
	s := New(Options{
		TLS: newSite(t, http.NotFoundHandler()).server.o.TLS, Engine: broken{}, Handler: http.NotFoundHandler(), Whole: time.Minute, Idle: time.Minute, MaxHead: 32 << 10,
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	select {
	case err := <-ended:
		if !errors.Is(err, errNoLoop) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Serve goes on")
		_ = s.Close()
		<-ended
	}
}

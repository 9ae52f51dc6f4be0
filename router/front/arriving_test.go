package front

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func (s *site) crowded(outcome string) float64 {
	return testutil.ToFloat64(s.server.o.Metrics.crowd.WithLabelValues(outcome))
}

// TestRequestsThatDoNotArrive: of one address there are no more than its share over all
// its connections; who comes then is refused at once, and other addresses are served. Where
// all places are taken, who has come longest ago gives way.
func TestRequestsThatDoNotArrive(t *testing.T) {
	t.Parallel()
	const most, share = 32, 4
	var reading atomic.Int32
	cut := make(chan error, most)
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/well" {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		reading.Add(1)
		_, err := io.ReadAll(r.Body)
		reading.Add(-1)
		cut <- err
	}))
	narrow(s.server.arrivals, most)
	s.server.arrivals.patience = 0
	for i := range most / share {
		from := "127.0.0." + string('1'+rune(i))
		for range 2 { // connections
			a := s.attackFrom(t, from)
			for range share {
				if _, err := a.open(false, hpack.HeaderField{Name: "content-length", Value: "65536"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		until(t, "the others are refused", func() bool { return s.crowded("refused") == float64(share*(i+1)) })
		if n := reading.Load(); n != int32(share*(i+1)) {
			t.Fatalf("%d of %d addresses are read", n, i+1)
		}
		well := s.client(t, "127.0.0.9")
		if err := errors.Join(s.get(well), s.ask(well, http.MethodPost, "x")); err != nil {
			t.Errorf("beside %d addresses: %v", i+1, err)
		}
		if err := s.get(s.client(t, from)); err != nil {
			t.Errorf("what brings no body, of an address that has its share: %v", err)
		}
	}
	if err := <-cut; !errors.Is(err, os.ErrDeadlineExceeded) || s.crowded("cut") != 1 {
		t.Errorf("who gave way: %v, %v counted", err, s.crowded("cut"))
	}
}

// TestRefusalsThatNobodyTakes: a window that stays shut keeps what the router itself answers
// in the crowd.
func TestRefusalsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	const share = 4
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }))
	narrow(s.server.arrivals, 8*share)
	a := s.attack(t)
	if err := a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	for range 3 * share {
		if _, err := a.open(true); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the others have a second", func() bool { return s.crowded("hurried") == 2*share })
	if n := s.server.arrivals.size(); n != share {
		t.Errorf("%d answers wait for their window, want %d", n, share)
	}
}

// TestWhoHasArrivedIsNotCounted: what goes on at a cell is bounded there.
func TestWhoHasArrivedIsNotCounted(t *testing.T) {
	t.Parallel()
	const share, all = 2, 10
	inside, over := make(chan struct{}), make(chan struct{})
	var s *site
	s = newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n := s.server.arrivals.size(); n != 1 {
			t.Errorf("%d are counted before", n)
		}
		Arrived(r.Context())
		inside <- struct{}{}
		<-over
	}))
	narrow(s.server.arrivals, 8*share)
	a := s.attack(t)
	for range all {
		if _, err := a.open(false, hpack.HeaderField{Name: "content-length", Value: "1"}); err != nil {
			t.Fatal(err)
		}
		<-inside
	}
	close(over)
	if n := s.server.arrivals.size(); n != 0 {
		t.Errorf("%d are counted", n)
	}
}

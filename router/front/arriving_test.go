package front

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cellway/cellway/infra/problem"
)

func (s *site) crowded(outcome string) float64 {
	return testutil.ToFloat64(s.server.o.Metrics.crowd.WithLabelValues(outcome))
}

// TestRequestsThatDoNotArrive: of one address there are no more than its share over all
// its connections; who comes then is refused at once, and other addresses are served. Where
// all places are taken, or its address's, who has come longest ago gives way, if that is long.
func TestRequestsThatDoNotArrive(t *testing.T) {
	t.Parallel()
	const most, share = 32, 4
	var reading atomic.Int32
	cut := make(chan error, most)
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			return
		}
		if err := Await(r.Context()); err != nil {
			problem.Write(w, err, problem.Where{})
			return
		}
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
	s.server.arrivals.waits(time.Hour)
	well := s.client(t, "127.0.0.9")
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
		until(t, "the others are refused", func() bool { return s.crowded("refused") == float64((share+1)*(i+1)-1) })
		if n := reading.Load(); n != int32(share*(i+1)) {
			t.Fatalf("%d of %d addresses are read", n, i+1)
		}
		if err := s.get(s.client(t, from)); err != nil {
			t.Errorf("what brings no body, of an address that has its share: %v", err)
		}
		if err := s.ask(s.client(t, from), http.MethodPost, "x"); err == nil || !strings.Contains(err.Error(), "429") {
			t.Errorf("a body of an address that has its share: got %v, want 429", err)
		}
		err := errors.Join(s.get(well), s.ask(well, http.MethodPost, "x"))
		if full := i == most/share-1; !full && err != nil || full && (err == nil || !strings.Contains(err.Error(), "503")) {
			t.Errorf("beside %d addresses: %v", i+1, err)
		}
	}
	s.server.arrivals.waits(0)
	for n, from := range []string{"127.0.0.9", "127.0.0.2"} { // of all, and of an address that still has its share
		if err := s.ask(s.client(t, from), http.MethodPost, "x"); err != nil {
			t.Errorf("who comes when the others have been waited for: %v", err)
		}
		if err := <-cut; !errors.Is(err, os.ErrDeadlineExceeded) || s.crowded("cut") != float64(n+1) {
			t.Errorf("who gave way: %v, %v counted", err, s.crowded("cut"))
		}
	}
}

// TestRefusalsThatNobodyTakes: a window that stays shut keeps what the router itself answers
// in the crowd, however long it is and however late it is refused.
func TestRefusalsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	const share = 4
	for name, refuse := range map[string]http.HandlerFunc{
		"at once": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
		"late": func(w http.ResponseWriter, r *http.Request) {
			_ = Arrived(r.Context(), true) // it waited for nothing
			Refused(r.Context())
			http.Error(w, "no", http.StatusServiceUnavailable)
		},
		"in many words": func(w http.ResponseWriter, r *http.Request) {
			Refused(r.Context())
			http.Error(w, strings.Repeat("no", 8<<10), http.StatusBadRequest) // more than net/http keeps: it waits in the handler
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, refuse)
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
		})
	}
}

// TestWhoWaitsForUsIsNotCounted: before it waits for its client, as one that is held, and
// when it has arrived. What goes on at a cell is bounded there.
func TestWhoWaitsForUsIsNotCounted(t *testing.T) {
	t.Parallel()
	const share, all = 2, 10
	inside, over := make(chan struct{}), make(chan struct{})
	var s *site
	s = newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		counted := func(want int) {
			if n := s.server.arrivals.size(); n != want {
				t.Errorf("%d are counted, want %d", n, want)
			}
		}
		counted(0)
		for range 2 {
			if err := Await(r.Context()); err != nil {
				t.Error(err)
			}
			counted(1)
		}
		if err := Arrived(r.Context(), true); err != nil {
			t.Error(err)
		}
		counted(0)
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

// A deadlined is an answer that knows the deadline of its writes.
type deadlined struct {
	*httptest.ResponseRecorder
	writes time.Time
}

func (d *deadlined) SetReadDeadline(time.Time) error { return nil }

func (d *deadlined) SetWriteDeadline(t time.Time) error {
	d.writes = t
	return nil
}

// TestWhoWasCutTooLate has its time again where its body is whole. Of another no more would
// come: it goes to no cell, and is refused.
func TestWhoWasCutTooLate(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		s := New(Options{Whole: time.Hour, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler)})
		narrow(s.arrivals, 8)
		s.arrivals.waits(0)
		d := &deadlined{ResponseRecorder: httptest.NewRecorder()}
		s.arriving(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			a := arrivalOf(r.Context())
			if a.from = netip.MustParsePrefix("192.0.2.1/32"); Await(r.Context()) != nil {
				t.Error("it may not wait")
			}
			if err := s.arrivals.enter(&guest{from: a.from}, true); err != nil {
				t.Error(err)
			}
			if err := Arrived(r.Context(), whole); (err == nil) != whole || !whole && !errors.Is(err, problem.RateLimited) {
				t.Errorf("whole %v: got %v", whole, err)
			}
		})).ServeHTTP(d, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")))
		if again := d.writes.After(time.Now().Add(s.o.Whole / 2)); again != whole {
			t.Errorf("whole %v: its answer ends at %v", whole, d.writes)
		}
	}
}

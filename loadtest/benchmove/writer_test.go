package benchmove

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// TestWriterIsAnOpenLoop: while one answer keeps others waiting, writes still
// begin when they are due, and each error is counted.
func TestWriterIsAnOpenLoop(t *testing.T) {
	t.Parallel()
	const hold = 20 // writes that must be under way at once
	var under, done atomic.Int64
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if under.Add(1) == hold {
			close(release)
		}
		<-release
		n := done.Add(1)
		if n%10 == 0 {
			http.Error(w, "{}", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":"p%d"}`, n)
	}))
	defer server.Close()
	ep := loadtest.NewEndpoint(server.URL)
	defer ep.Close()
	tenant := loadtest.Adopt(ep, &loadtest.Recorder{}, directory.Tenant{ID: 7}, "token", loadtest.Plan{})
	w := write(t.Context(), 500, tenant)
	<-release
	w.stop()
	if len(w.acks)+len(w.faults) != w.sent || w.sent < hold || len(w.faults) != w.sent/10 {
		t.Errorf("got %d acknowledged and %d refused of %d writes, want at least %d and every tenth refused", len(w.acks), len(w.faults), w.sent, hold)
	}
	if len(w.took()) != len(w.acks) || w.achieved() <= 0 {
		t.Errorf("got %d durations of %d writes, %v a second", len(w.took()), len(w.acks), w.achieved())
	}
}

func TestPauseIsBetweenTheOwners(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	w := &writer{acks: []ack{
		{"a", at(0), 0},
		{"late", at(9), 0}, // committed before the move, acknowledged after another one of its epoch
		{"b", at(5), 0},
		{"d", at(30), 0},
		{"c", at(21), 0},
		{"lost", at(40), 0},
	}}
	h := history{"a": 3, "b": 3, "late": 3, "c": 4, "d": 4}
	if got, ok := w.pause(h, 4); !ok || got != 12*time.Millisecond {
		t.Errorf("got %v, %v, want 12ms", got, ok)
	}
	if _, ok := w.pause(h, 5); ok {
		t.Error("a pause of an epoch without writes")
	}
	if got := w.lost(h); got != 1 {
		t.Errorf("lost: got %d, want 1", got)
	}
}

func TestMobilePause(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	m := &mobile{acks: []sqlAck{{at(0), false}, {at(7), false}}}
	if m.arrived() {
		t.Error("arrived before a write at the target")
	}
	m.acks = append(m.acks, sqlAck{at(20), true}, sqlAck{at(15), true})
	got, first := m.pause()
	if !m.arrived() || got != 8*time.Millisecond || !first.Equal(at(15)) {
		t.Errorf("got %v, first at %v", got, first)
	}
}

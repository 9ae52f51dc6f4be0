package streams

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// waits reports whether a goroutine waits in gone for the lock of streams.
func waits() bool {
	stacks := make([]byte, 1<<20)
	for s := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
		if bytes.Contains(s, []byte("streams.(*Streams).gone(")) && bytes.Contains(s, []byte("sync.(*Mutex).Lock")) {
			return true
		}
	}
	return false
}

// TestAnOldTableEndsNoNewStream: one that was opened by a newer table, while who looks at them
// all still waits for his turn.
func TestAnOldTableEndsNoNewStream(t *testing.T) { //nolint:paralleltest // it looks at all goroutines
	b := &bench{t: t, table: table.New()}
	b.Streams = New(prometheus.NewRegistry(), &identify.Chain{})
	b.place(1, "c1", 1, directory.Active)
	b.place(2, "c1", 1, directory.Active)
	watching := make(chan struct{})
	go func() { // ends with the test's context
		defer close(watching)
		b.Watch(t.Context(), b.table)
	}()
	t.Cleanup(func() { <-watching })
	later := b.streams(2, 1, identify.Credential{})

	b.mu.Lock()
	b.place(1, "c1", 1, directory.Suspended)
	for deadline := time.Now().Add(20 * time.Second); !waits(); {
		if time.Now().After(deadline) {
			b.mu.Unlock()
			t.Fatal("nobody looks at the streams")
		}
		time.Sleep(time.Millisecond) // the pause of a poll with a deadline
	}
	b.place(1, "c2", 2, directory.Active)
	ends := make(chan h1.Ending, 1)
	x := &stream{at: directory.Placement{Tenant: 1, Cell: "c2", Epoch: 2}, end: func(e h1.Ending) { ends <- e }}
	b.open[1] = &group{x.at, map[*stream]struct{}{x: {}}} // as Add does
	b.mu.Unlock()

	b.place(2, "c1", 1, directory.Suspended)
	<-later // by then all were looked at
	if len(ends) > 0 {
		t.Errorf("it was ended with %+v", <-ends)
	}
}

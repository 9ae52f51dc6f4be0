package h1

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestALoopThatIsIdleHasNoProcessor: it waits as every goroutine does, and not in a
// system call, from which the runtime takes its processor ten milliseconds later.
func TestALoopThatIsIdleHasNoProcessor(t *testing.T) {
	t.Parallel()
	lp, err := newLoop(&Server{})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.end()
	lp.now = time.Now()
	lp.gave = lp.now
	if n := lp.wait(); n != 0 { // it keeps the processor for a moment
		t.Fatalf("got %d events of an idle loop", n)
	}
	lp.now = lp.gave.Add(keepFor)
	found := make(chan int)
	go waitIdly(lp, found)
	eventually(t, "the loop waits by the scheduler's poller", func() bool {
		dump := make([]byte, 1<<20)
		for goroutine := range strings.SplitSeq(string(dump[:runtime.Stack(dump, true)]), "\n\n") {
			if strings.Contains(goroutine, "h1.waitIdly(") {
				return strings.Contains(goroutine, "[IO wait")
			}
		}
		return false
	})
	lp.post(func() {})
	if n := <-found; n != 1 {
		t.Errorf("got %d events, want the one that wakes it", n)
	}
}

func waitIdly(lp *loop, found chan<- int) { found <- lp.wait() }

// TestLoopsWithoutClientsGiveUpConnections to cells that are too old, though they look
// more seldom.
func TestLoopsWithoutClientsGiveUpConnections(t *testing.T) {
	t.Parallel()
	lp, err := newLoop(&Server{})
	if err != nil {
		t.Fatal(err)
	}
	defer lp.end()
	up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(cellOfFlights)), MaxAge: time.Second}
	t.Cleanup(up.Close)
	l, err := up.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lp.lift(nil, l); err != nil {
		t.Fatal(err)
	}
	s := l.Conn.(*descriptor)
	if err := lp.add(s); err != nil {
		t.Fatal(err)
	}
	lp.park(up, l, s)
	lp.now = time.Now()
	l.since, lp.swept = lp.now.Add(-2*time.Second), lp.now.Add(-time.Second)
	lp.sweep()
	if len(lp.parked[up]) != 0 || s.fd >= 0 {
		t.Error("it is kept")
	}
}

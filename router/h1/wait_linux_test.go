package h1

import (
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

package telemetry

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A pipe is a writer that is stuck until it is opened.
type pipe struct {
	began, open chan struct{}
	once        sync.Once
	got         bytes.Buffer // read after close
}

func (p *pipe) Write(b []byte) (int, error) {
	p.once.Do(func() { close(p.began) })
	<-p.open
	return p.got.Write(b)
}

// TestF35WhoLogsNeverWaits: with a writer that is stuck, lines are taken until the
// bound, then dropped and counted; when it is free again, it gets those that
// waited, whole and in order, and how many are missing.
func TestF35WhoLogsNeverWaits(t *testing.T) {
	t.Parallel()
	p := &pipe{began: make(chan struct{}), open: make(chan struct{})}
	var told sync.WaitGroup
	told.Add(1)
	var s *sink
	s = newSink(p, prometheus.NewRegistry(), func(dropped int) {
		defer told.Done()
		fmt.Fprintf(s, "%d dropped\n", dropped)
	})
	fmt.Fprintln(s, "first")
	<-p.began
	line := strings.Repeat("x", 1023) + "\n"
	for range sinkBytes/len(line) + 7 {
		if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("got %d %v, want a logger that never fails", n, err)
		}
	}
	if got := testutil.ToFloat64(s.dropped); got != 7 {
		t.Errorf("dropped: got %v, want 7", got)
	}
	close(p.open)
	told.Wait()
	s.close()
	fmt.Fprintln(s, "after the end")
	if want := "first\n" + strings.Repeat(line, sinkBytes/len(line)) + "7 dropped\n"; p.got.String() != want {
		t.Errorf("got %d bytes, want %d: whole lines in order", p.got.Len(), len(want))
	}
}

// A counter is a writer that keeps what each call brought.
type counter struct {
	mu    sync.Mutex
	calls []string
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, string(b))
	return len(b), nil
}

// TestLinesGather: the first line is written at once, those of the pause after it
// together, and the last when the sink is closed.
func TestLinesGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counter{}
		s := newSink(c, prometheus.NewRegistry(), func(int) {})
		fmt.Fprintln(s, "first")
		synctest.Wait()
		fmt.Fprintln(s, "second")
		fmt.Fprintln(s, "third")
		synctest.Wait()
		time.Sleep(sinkPause)
		synctest.Wait()
		fmt.Fprintln(s, "last")
		s.close()
		if want := []string{"first\n", "second\nthird\n", "last\n"}; !slices.Equal(c.calls, want) {
			t.Errorf("got %q, want %q", c.calls, want)
		}
	})
}

// TestF35AFullPipeHoldsUpNoEnd: nobody reads the pipe, and Close returns.
func TestF35AFullPipeHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	s := newSink(w, prometheus.NewRegistry(), func(int) {})
	for range 2000 {
		fmt.Fprintln(s, strings.Repeat("x", 1023))
	}
	s.close()
	if testutil.ToFloat64(s.dropped) == 0 {
		t.Error("nothing was dropped, and nothing was read")
	}
}

// TestF35AReaderThatIsGone: what cannot be written is counted.
func TestF35AReaderThatIsGone(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	_ = r.Close()
	s := newSink(w, prometheus.NewRegistry(), func(int) {})
	fmt.Fprintln(s, "nobody")
	s.close()
	if got := testutil.ToFloat64(s.dropped); got != 1 {
		t.Errorf("dropped: got %v, want 1", got)
	}
}

package telemetry

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	sinkBytes = 1 << 20               // of lines that wait; what comes on top is dropped
	sinkPause = 10 * time.Millisecond // from one write to the next
	sinkEnd   = 2 * time.Second       // for what still waits when the process ends
)

// A sink writes log lines to w and never makes who logs wait for w: a pipe that
// nobody reads, or a terminal that is stopped, costs lines, which are counted, and
// nothing else; so does one whose reader is gone. A line after a pause is written at
// once, the others together: a router would else wake a goroutine and make a system call
// for nearly each request. A process that is killed loses them. What the runtime says of a crash does not come this way.
type sink struct {
	w       io.Writer
	most    int
	dropped prometheus.Counter
	tell    func(dropped int) // is called when lines go through again

	mu     sync.Mutex
	lines  []byte // whole ones
	lost   int    // since tell
	closed bool
	wake   chan struct{} // there is something in lines, or closed
	ending chan struct{} // closed with closed
	done   chan struct{}
}

// newSink starts a sink, whose goroutine ends with close, or with the process
// where w takes nothing. tell may log.
func newSink(w io.Writer, reg prometheus.Registerer, tell func(dropped int)) *sink {
	s := &sink{
		w: w, most: sinkBytes, tell: tell, wake: make(chan struct{}, 1), ending: make(chan struct{}), done: make(chan struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "log_lines_dropped_total", Help: "Log lines that nobody took in time.",
		}),
	}
	reg.MustRegister(s.dropped)
	go s.run()
	return s
}

// Write takes whole lines, or drops them.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.lines)+len(p) > s.most {
		n := bytes.Count(p, []byte{'\n'})
		s.lost += n
		s.dropped.Add(float64(n))
		return len(p), nil // a logger has nobody to tell
	}
	s.lines = append(s.lines, p...)
	s.signal()
	return len(p), nil
}

func (s *sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// run writes what waits, all at once, while the next lines gather.
func (s *sink) run() {
	defer close(s.done)
	var spare []byte
	pause := time.NewTimer(sinkPause)
	defer pause.Stop()
	for range s.wake {
		s.mu.Lock()
		lines, lost, closed := s.lines, s.lost, s.closed
		s.lines, s.lost = spare[:0], 0
		s.mu.Unlock()
		if len(lines) > 0 {
			n, err := s.w.Write(lines)
			if err != nil { // there is no other place to say it
				s.dropped.Add(float64(bytes.Count(lines[n:], []byte{'\n'})))
			}
		}
		if spare = lines; cap(spare) > sinkBytes {
			spare = nil // it was a rush
		}
		if lost > 0 {
			s.tell(lost)
		}
		if closed {
			return
		}
		pause.Reset(sinkPause)
		select {
		case <-pause.C:
		case <-s.ending:
		}
	}
}

// close writes what waits, if w takes it soon, and takes no more.
func (s *sink) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.ending)
	}
	s.signal()
	s.mu.Unlock()
	timer := time.NewTimer(sinkEnd)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C: // nobody reads; who would be told?
	}
}

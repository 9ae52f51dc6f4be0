package router_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/front"
)

// TestAnAnswerThatEndsIsNoErrorInTheLog: that the client of a stream, or of another answer, leaves is
// nobody's fault, nor is that its tenant moves. That its cell cuts it is the cell's.
func TestAnAnswerThatEndsIsNoErrorInTheLog(t *testing.T) {
	t.Parallel()
	const stream, plain = "text/event-stream", "text/plain"
	leaves := func(_ *world, s *tap, _ chan struct{}) { _ = s.resp.Body.Close() }
	moves := func(w *world, s *tap, _ chan struct{}) {
		w.placed(place(1, "c2", 2, directory.Active), "acme")
		s.wantEnd()
	}
	cuts := func(_ *world, s *tap, cut chan struct{}) {
		close(cut)
		if s.lines.Scan() || s.lines.Err() == nil {
			s.tb.Error("it looks whole")
		}
	}
	for name, tt := range map[string]struct {
		kind  string
		ends  func(w *world, s *tap, cut chan struct{})
		level string
	}{
		"its client leaves":            {stream, leaves, "INFO"},
		"its client leaves, no stream": {plain, leaves, "INFO"},
		"its tenant moves":             {stream, moves, "INFO"},
		"its cell cuts it":             {stream, cuts, "ERROR"},
		"its cell cuts it, no stream":  {plain, cuts, "ERROR"},
	} {
		for _, on := range []string{engine, "HTTP/2"} {
			t.Run(name+", "+on, func(t *testing.T) {
				t.Parallel()
				cut := make(chan struct{})
				w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", tt.kind)
					fmt.Fprintln(w, "line")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-cut:
						panic(http.ErrAbortHandler)
					case <-r.Context().Done():
					}
				})}, nil)
				if on == "HTTP/2" {
					w.listen(w.router.NewH2C(front.NewMetrics(w.registry)))
					w.client = overH2C(t)
				}
				s := w.tap(acme)
				s.want("line")
				tt.ends(w, s, cut)
				logged := func() string {
					for line := range strings.Lines(w.log.String()) {
						if strings.Contains(line, `"path":"/stream"`) {
							return line
						}
					}
					return ""
				}
				eventually(t, "the line in the log", func() bool { return logged() != "" })
				if line := logged(); !strings.Contains(line, `"level":"`+tt.level+`"`) || !strings.Contains(line, `"status":200`) {
					t.Errorf("got %s", line)
				}
			})
		}
	}
}

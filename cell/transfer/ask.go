package transfer

import (
	"context"
	"net/http"
	"sync"

	"github.com/cellway/cellway/infra/problem"
)

// An answer is the source's round, awaited by who reads it. The last one is asked for at
// once: the target prepares to store while the source waits for the freeze. Else it is asked for
// when it is read: who keeps a connection of the source busy has one here already, and
// cells that copy to each other do not wait for each other's.
type answer struct {
	cancel context.CancelFunc
	ask    func()
	asked  sync.Once
	done   chan struct{} // closed when resp and err are there
	resp   *http.Response
	err    error
	told   error // err, once a reader has met it
}

// askRows asks the source for what changed since a snapshot. The caller closes the answer.
func (s *Server) askRows(ctx context.Context, r Request, since string) *answer {
	ctx, cancel := context.WithCancel(ctx)
	a := &answer{cancel: cancel, done: make(chan struct{})}
	a.ask = func() {
		defer close(a.done)
		a.resp, a.err = s.ask(ctx, r.SourceURL, "rows", Request{Move: r.Move, Since: since, Final: r.Final, Ask: r.Ask})
		if a.err == nil && a.resp.StatusCode != http.StatusOK {
			a.err = problem.Said(a.resp, problem.Unavailable)
		}
	}
	if r.Final {
		a.asked.Do(func() { go a.ask() }) // ends with ctx, at the latest when the answer is closed
	}
	return a
}

// Read reads the round; its error is the source's where that refused.
func (a *answer) Read(p []byte) (int, error) {
	a.asked.Do(a.ask)
	<-a.done
	if a.err != nil {
		a.told = a.err
		return 0, a.err
	}
	return a.resp.Body.Read(p)
}

func (a *answer) close() {
	a.cancel()
	a.asked.Do(func() { close(a.done) })
	<-a.done
	if a.resp != nil {
		a.resp.Body.Close()
	}
}

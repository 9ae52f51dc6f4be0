package router

import (
	"context"
	"io"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// streamWrite bounds one write to a stream's client: who takes no byte for so
// long is gone.
const streamWrite = 30 * time.Second

// streams are the event streams and tunnels that are relayed now. Each ends when its
// tenant's placement is another one than it was opened at: the client connects again,
// and gets to the new owner. So it does when what it was opened with counts no more.
type streams struct {
	chain   *identify.Chain
	mu      sync.Mutex
	open    map[directory.TenantID]map[*streamed]struct{}
	closed  bool
	count   *prometheus.GaugeVec
	ended   *prometheus.CounterVec // of tenants whose placement changed
	revoked *prometheus.CounterVec
}

// A streamed is one stream.
type streamed struct {
	at    directory.Placement
	shown identify.Credential
	end   func()
}

func newStreams(reg *prometheus.Registry, chain *identify.Chain) *streams {
	s := &streams{
		chain: chain,
		open:  map[directory.TenantID]map[*streamed]struct{}{},
		count: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "router_streams_open", Help: "Event streams that are relayed now, by cell.",
		}, []string{"cell"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_streams_moved_total", Help: "Event streams that were ended because the tenant's placement changed, by the cell it left.",
		}, []string{"cell"}),
		revoked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_streams_revoked_total", Help: "Event streams that were ended because the credential that they were opened with was revoked or has expired, by cell.",
		}, []string{"cell"}),
	}
	reg.MustRegister(s.count, s.ended, s.revoked)
	return s
}

// stands reports whether a stream opened at a placement may go on at another.
func stands(at, now directory.Placement) bool {
	return at.Cell == now.Cell && at.Epoch == now.Epoch && (now.State == directory.Active || now.State == directory.Cutover)
}

// add watches a stream until done is called: end is called once, when the stream
// must end. t and the credential are looked at after the stream is known, so no
// change is missed.
func (s *streams) add(t *table.Table, at directory.Placement, shown identify.Credential, end func()) (done func()) {
	x := &streamed{at, shown, end}
	s.mu.Lock()
	if s.open[at.Tenant] == nil {
		s.open[at.Tenant] = map[*streamed]struct{}{}
	}
	s.open[at.Tenant][x] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	s.count.WithLabelValues(string(at.Cell)).Inc()
	left, _ := s.chain.Counts(shown)
	if closed || s.over(x, t.View()) != nil {
		s.finish(x, end)
	}
	stop := func() bool { return true }
	if left > 0 {
		stop = time.AfterFunc(left, func() { s.finish(x, x.because(s.revoked)) }).Stop
	}
	return func() {
		stop()
		s.finish(x, func() {})
		s.count.WithLabelValues(string(at.Cell)).Dec()
	}
}

// finish forgets a stream and calls end, unless that has been done.
func (s *streams) finish(x *streamed, end func()) {
	s.mu.Lock()
	_, there := s.open[x.at.Tenant][x]
	delete(s.open[x.at.Tenant], x)
	if len(s.open[x.at.Tenant]) == 0 {
		delete(s.open, x.at.Tenant)
	}
	s.mu.Unlock()
	if there {
		end()
	}
}

// watch ends streams as the table changes, until ctx ends. It looks at the
// tenants that have streams once for each table, and no tenant's stream has a
// goroutine of its own for that.
func (s *streams) watch(ctx context.Context, t *table.Table) {
	for ctx.Err() == nil {
		v, changed := t.View(), s.chain.Changed()
		for x, why := range s.gone(v) {
			s.finish(x, x.because(why))
		}
		select {
		case <-v.Replaced():
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// gone are the streams that must end, by what counts that.
func (s *streams) gone(v *table.View) map[*streamed]*prometheus.CounterVec {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[*streamed]*prometheus.CounterVec{}
	for _, open := range s.open {
		for x := range open {
			if why := s.over(x, v); why != nil {
				gone[x] = why
			}
		}
	}
	return gone
}

// over is what counts that x must end, nil where it may go on.
func (s *streams) over(x *streamed, v *table.View) *prometheus.CounterVec {
	if now, ok := v.ByID(x.at.Tenant); !ok || !stands(x.at, now.Placement) {
		return s.ended
	}
	if _, ok := s.chain.Counts(x.shown); !ok {
		return s.revoked
	}
	return nil
}

// because ends x and counts it.
func (x *streamed) because(why *prometheus.CounterVec) func() {
	return func() {
		why.WithLabelValues(string(x.at.Cell)).Inc()
		x.end()
	}
}

// close ends every stream, and each that is opened after it.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	var all []*streamed
	for _, open := range s.open {
		for x := range open {
			all = append(all, x)
		}
	}
	s.mu.Unlock()
	for _, x := range all {
		s.finish(x, x.end)
	}
}

// isStream reports whether an answer goes on as long as it likes.
func isStream(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "text/event-stream"
}

// A streamBody is the body of an answer that goes on. It lifts the deadlines of the
// client's connection: each piece has its own. Ended from here, it looks whole.
type streamBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	ended atomic.Bool
	done  func()
	once  sync.Once
}

func newStreamBody(w http.ResponseWriter, body io.ReadCloser) (*streamBody, error) {
	b := &streamBody{ReadCloser: body, rc: http.NewResponseController(w)}
	// With the server's deadline for reading, net/http would take the client for gone.
	return b, b.rc.SetReadDeadline(time.Time{})
}

// Read implements io.Reader. What it returns is written within streamWrite, the end
// of the answer too; io.EOF comes back as itself, for that is what is compared with.
func (b *streamBody) Read(p []byte) (int, error) {
	_ = b.rc.SetWriteDeadline(time.Time{}) // at it HTTP/2 would end the stream, even if there is nothing to write
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.ended.Load() {
		err = io.EOF
	}
	_ = b.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // the write will report it
	return n, err
}

// end ends the stream in good order for the client.
func (b *streamBody) end() {
	b.ended.Store(true)
	_ = b.ReadCloser.Close() // a Read that waits returns
}

// Close implements io.Closer.
func (b *streamBody) Close() error {
	b.once.Do(b.done)
	return b.ReadCloser.Close()
}

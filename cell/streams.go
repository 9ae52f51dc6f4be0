package cell

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Bounds on the streams of one process.
const (
	maxTenantStreams = 32   // the contract says so
	maxStreams       = 4096 // a goroutine and a connection each
)

// fenceEvery is how often the fence is asked about the tenants that have streams:
// one that moved away has none left here, whatever its router does.
const fenceEvery = 3 * time.Second

const fenceTimeout = 5 * time.Second // of that question

// streamChannel is where a commit tells that a tenant's streams have something to read.
const streamChannel = "cell_stream"

// WakeStreams makes the open streams of tx's tenant read, once tx has committed.
func WakeStreams(tx *store.Tx) { tx.Notify(streamChannel, tx.Tenant.String()) }

// A seat is one open stream.
type seat struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	wake   chan struct{} // there may be something to read
	over   chan struct{} // closed: end
	why    string        // set before over is closed, and never again
}

// Why a stream ended: label of cell_streams_ended_total.
const (
	overPeer  = "peer"  // the client, or its router, went away
	overFence = "fence" // the tenant moved, or stands still: the client connects again
	overStop  = "stop"  // the process stops
	overError = "error"
)

// streams are the open streams of one process.
type streams struct {
	mu      sync.Mutex
	seats   map[directory.TenantID]map[*seat]struct{}
	count   int
	stopped bool

	ended *prometheus.CounterVec
	reset prometheus.Counter
}

func newStreams() *streams {
	return &streams{
		seats: map[directory.TenantID]map[*seat]struct{}{},
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cell_streams_ended_total", Help: "Event streams that ended, by why.",
		}, []string{"why"}),
		reset: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cell_streams_reset_total", Help: "Clients that were told that what they had seen is not in the database any more.",
		}),
	}
}

// take opens a stream of the tenant.
func (s *streams) take(t directory.TenantID, e directory.Epoch) (*seat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped, s.count >= maxStreams:
		return nil, again(problem.Unavailable, nil, "this process takes no more streams")
	case len(s.seats[t]) >= maxTenantStreams:
		return nil, again(problem.RateLimited, nil, fmt.Sprintf("the tenant has %d streams already", maxTenantStreams))
	}
	if s.seats[t] == nil {
		s.seats[t] = map[*seat]struct{}{}
	}
	x := &seat{tenant: t, epoch: e, wake: make(chan struct{}, 1), over: make(chan struct{})}
	s.seats[t][x] = struct{}{}
	s.count++
	return x, nil
}

// leave gives a seat back. It may have been ended before.
func (s *streams) leave(x *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(x)
}

func (s *streams) remove(x *seat) {
	if _, there := s.seats[x.tenant][x]; !there {
		return
	}
	delete(s.seats[x.tenant], x)
	if len(s.seats[x.tenant]) == 0 {
		delete(s.seats, x.tenant)
	}
	s.count--
}

// end tells the streams of which gone is true to end.
func (s *streams) end(why string, gone func(*seat) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seats := range s.seats {
		for x := range seats {
			if gone(x) {
				x.why = why
				close(x.over)
				s.remove(x)
			}
		}
	}
}

// stop ends all streams and opens no more.
func (s *streams) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.end(overStop, func(*seat) bool { return true })
}

// heard wakes the streams of the tenant that payload names; all, where it names
// none: then notices may have been missed.
func (s *streams) heard(payload string) {
	id, err := directory.ParseTenantID(payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		wake(s.seats[id])
		return
	}
	for _, seats := range s.seats {
		wake(seats)
	}
}

func wake(seats map[*seat]struct{}) {
	for x := range seats {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

func (s *streams) tenants() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]int64, 0, len(s.seats))
	for t := range s.seats {
		out = append(out, int64(t))
	}
	return out
}

// open is how many streams there are.
func (s *streams) open() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.count)
}

// watch asks the fence, until ctx ends, whether the tenants of open streams are
// still served here.
func (s *streams) watch(ctx context.Context, db *store.Store) error {
	for ctx.Err() == nil {
		if err := s.check(ctx, db); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "ask the fence about streams", "error", err)
		}
		wait(ctx, jitter(fenceEvery))
	}
	return nil
}

const servedSQL = `
	SELECT f.tenant_id, f.epoch
	  FROM unnest($1::bigint[]) AS u (t), cell.fence_of(u.t) f
	 WHERE f.state = 'active'`

// check ends the streams of tenants that are not served here at their epoch.
func (s *streams) check(ctx context.Context, db *store.Store) error {
	asked := s.tenants()
	if len(asked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	rows, err := db.DB().Query(ctx, servedSQL, asked)
	if err != nil {
		return fmt.Errorf("read fences: %w", err)
	}
	served := map[directory.TenantID]directory.Epoch{} // 0: not served here
	for _, t := range asked {
		served[directory.TenantID(t)] = 0
	}
	var t directory.TenantID
	var e directory.Epoch
	if _, err := pgx.ForEachRow(rows, []any{&t, &e}, func() error {
		served[t] = e
		return nil
	}); err != nil {
		return fmt.Errorf("read fences: %w", err)
	}
	s.end(overFence, func(x *seat) bool {
		at, known := served[x.tenant]
		return known && (at == 0 || at > x.epoch) // a lower one was read before the seat was taken
	})
	return nil
}

// register shows how many streams there are and why they end.
func (s *streams) register(reg prometheus.Registerer) {
	reg.MustRegister(s.ended, s.reset, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cell_streams_open", Help: "Event streams that are open now.",
	}, s.open))
}

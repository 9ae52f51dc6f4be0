package worker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/directory"
)

// Bounds on what waits in memory. Over them an entry counts as read: its event
// is in Postgres, and the lane knows how far it has to go.
const (
	maxLane  = 256
	maxLanes = 16384 // of all lanes of a consumer together
)

// An entry is an event as the stream brought it.
type entry struct {
	id    string // in its stream
	event outbox.Event
}

// A lane is one tenant that has something to do. One goroutine at a time works
// on it, which is what keeps the tenant's order.
type lane struct {
	tenant  directory.TenantID
	epoch   directory.Epoch
	upto    int64   // the highest number heard of
	entries []entry // as they came
	state   laneState
	timer   *time.Timer // ends the waiting
}

type laneState int

const (
	ready   laneState = iota // in line
	running                  // a goroutine has it
	waiting                  // for its timer
)

// lanes are the lanes of one consumer, those that are ready first come first
// served. A tenant without a lane has nothing to do.
type lanes struct {
	mu      sync.Mutex
	all     map[directory.TenantID]*lane
	line    []*lane
	entries int
	wake    chan struct{}
}

func newLanes() *lanes {
	return &lanes{all: map[directory.TenantID]*lane{}, wake: make(chan struct{}, 1)}
}

// hear says that the tenant has events up to a number. kept is false where the
// entry is not remembered and may be acknowledged; e is nil where there is none.
func (l *lanes) hear(t directory.TenantID, epoch directory.Epoch, upto int64, e *entry) (kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.all[t]
	if ln == nil {
		ln = &lane{tenant: t}
		l.all[t] = ln
		l.enqueue(ln)
	}
	ln.epoch, ln.upto = max(ln.epoch, epoch), max(ln.upto, upto)
	if e == nil || len(ln.entries) >= maxLane || l.entries >= maxLanes {
		return false
	}
	ln.entries = append(ln.entries, *e)
	l.entries++
	return true
}

func (l *lanes) enqueue(ln *lane) {
	ln.state = ready
	l.line = append(l.line, ln)
	l.signal()
}

func (l *lanes) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// A job is what a lane has to do, as a goroutine works on it.
type job struct {
	lane   *lane
	tenant directory.TenantID
	epoch  directory.Epoch
	upto   int64
	queued []outbox.Event // in order of their numbers
	ended  bool           // done: after what is done there is nothing, whatever was heard of

	deleted bool // done: the tenant is
}

// next waits for a lane and takes it; ok is false when ctx ended.
func (l *lanes) next(ctx context.Context) (j job, ok bool) {
	for ctx.Err() == nil {
		if j, ok = l.pop(); ok {
			return j, true
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		}
	}
	return job{}, false
}

func (l *lanes) pop() (j job, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 {
		return job{}, false
	}
	ln := l.line[0]
	l.line = l.line[1:]
	if len(l.line) > 0 {
		l.signal() // one signal may stand for several lanes
	}
	ln.state = running
	j = job{lane: ln, tenant: ln.tenant, epoch: ln.epoch, upto: ln.upto}
	for _, e := range ln.entries {
		j.queued = append(j.queued, e.event)
	}
	slices.SortStableFunc(j.queued, func(a, b outbox.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return j, true
}

// done takes a job's lane back: everything up to a number is done, the rest goes
// on after wait. Where the job has ended, what it began with is all done, and what
// was heard since goes on. It returns the ids of the entries that are done.
func (l *lanes) done(j job, upto int64, wait time.Duration) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := j.lane
	if l.all[ln.tenant] != ln {
		return nil // the partition was lost meanwhile
	}
	ln.epoch = max(ln.epoch, j.epoch)
	if j.ended && ln.upto == j.upto {
		ln.upto = upto
	}
	before, seen := len(ln.entries), 0
	ln.entries = slices.DeleteFunc(ln.entries, func(e entry) bool {
		seen++
		if e.event.Seq > upto && !(j.ended && seen <= len(j.queued)) { // those that came since are behind
			return false
		}
		ids = append(ids, e.id)
		return true
	})
	l.entries -= before - len(ln.entries)
	switch {
	case len(ln.entries) == 0 && ln.upto <= upto:
		delete(l.all, ln.tenant)
	case wait > 0:
		ln.state = waiting
		ln.timer = time.AfterFunc(wait, func() { l.resume(ln) })
	default:
		l.enqueue(ln)
	}
	return ids
}

// resume puts a lane that waited back in line, unless it is gone.
func (l *lanes) resume(ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[ln.tenant] == ln && ln.state == waiting {
		l.enqueue(ln)
	}
}

// drop forgets the lanes of which gone is true. Their entries stay pending in
// the stream, for whoever has the partition next.
func (l *lanes) drop(gone func(directory.TenantID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t, ln := range l.all {
		if !gone(t) {
			continue
		}
		if ln.timer != nil {
			ln.timer.Stop()
		}
		l.entries -= len(ln.entries)
		delete(l.all, t)
	}
	l.line = slices.DeleteFunc(l.line, func(ln *lane) bool { return gone(ln.tenant) })
}

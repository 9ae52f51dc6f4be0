package chaos

import (
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// What Redis may lose is little, and said beforehand: it is no authority. A Redis that is
// killed may not have written down what it was told just before, and a move does not wait
// for one that does not answer. Everything else that a durable key or a limit loses is a
// violation.

// unwritten is how long what a Redis has acknowledged may not be written down yet
// (appendfsync everysec): a second, or two where the disk is busy.
const unwritten = 2 * time.Second

// A death is a process of a cell that was killed, between two instants.
type death struct {
	cell          directory.CellID
	before, after time.Time
}

// died notes a process that was killed: of Redis ("c1-redis") and of APIs ("c1") it is asked again.
func (r *run) died(process string, before, after time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cell, isRedis := strings.CutSuffix(process, "-redis")
	d := death{directory.CellID(cell), before, after}
	if isRedis {
		r.dead = append(r.dead, d)
	} else {
		r.fallen = append(r.fallen, d)
	}
}

// deaths are those of Redis.
func (r *run) deaths() []death {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead[:len(r.dead):len(r.dead)]
}

// A hop is where a round took a tenant.
type hop struct {
	from, to    directory.CellID // the owner before and after it
	began, over time.Time        // the move lies between
	without     bool             // it went on without all of the keys
}

func (h hop) moved() bool { return h.from != h.to }

// mayLose reports whether a word may be lost that the Redis of a cell had acknowledged.
func (h hop) mayLose(acknowledged time.Time, by directory.CellID, deaths []death) bool {
	for _, d := range deaths {
		if d.cell == by && !acknowledged.After(d.after) && d.before.Sub(acknowledged) < unwritten {
			return true
		}
		// All of the tenant's keys have been written at the target then. And a source that is set
		// back in the middle of a move may leave out changes (decision 9).
		if h.moved() && (d.cell == h.from || d.cell == h.to) && d.after.After(h.began) && d.before.Sub(h.over) < unwritten {
			return true
		}
	}
	return h.moved() && h.without
}

// mayLoseLimit reports whether the state of a limit may be lost. It moves whole, in the last round.
func (h hop) mayLoseLimit(b loadtest.GivenBack, deaths []death) bool {
	for _, d := range deaths {
		if (d.cell == h.from || d.cell == h.to) && d.after.After(b.Since) && d.before.Before(b.At) {
			return true
		}
	}
	return h.moved() && h.without
}

// switchedAt is when the tenant's move, that of this round, was first seen to be activated; where
// nobody has seen it, now.
func (r *run) switchedAt(t directory.TenantID, began time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.switched[t]; at.After(began) {
		return at
	}
	return time.Now()
}

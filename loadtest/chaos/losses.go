package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// A death is a Redis that was killed, between two instants.
type death struct {
	cell          directory.CellID
	before, after time.Time
}

// died notes a Redis that was killed.
func (r *run) died(d death) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = append(r.dead, d)
}

func (r *run) deaths() []death {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead[:len(r.dead):len(r.dead)]
}

// A hop is where a round took a tenant.
type hop struct {
	from, to    directory.CellID // the owner before and after it
	began, over time.Time        // the move lies between
	without     bool             // it said that it went on without all of the keys
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

// wentWithout is what a cell logs of a move whose keys did not come in time.
const wentWithout = "the move goes on without all of the tenant's redis keys"

// readLosses reads in the cells' logs, from where it ended last, which tenants' last rounds
// went on without all of their keys. Their counters do not outlive a cell that is killed.
func (r *run) readLosses() (map[directory.TenantID]bool, error) {
	found := map[directory.TenantID]bool{}
	for _, id := range r.cellIDs() {
		n, err := readLog(filepath.Join(r.state.Dir, "log", string(id)+".log"), r.read[id], found)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", id, err)
		}
		r.read[id] = n
	}
	return found, nil
}

// readLog adds the tenants that a log tells of after the first bytes, and returns where its
// last whole line ends.
func readLog(path string, after int64, found map[directory.TenantID]bool) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return after, err
	}
	defer f.Close()
	if _, err := f.Seek(after, io.SeekStart); err != nil {
		return after, err
	}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return after, nil // the rest of the line is still to come
		}
		if err != nil {
			return after, err
		}
		after += int64(len(line))
		var told struct {
			Tenant directory.TenantID `json:"tenant"`
			Final  bool               `json:"final"`
		}
		// A line that is not whole is one of a process that was killed.
		if bytes.Contains(line, []byte(wentWithout)) && json.Unmarshal(line, &told) == nil && told.Final {
			found[told.Tenant] = true
		}
	}
}

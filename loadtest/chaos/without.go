package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// Whether a move went on without all of its keys its target says in its log, which loses its last lines where
// the process is killed. What the target's Redis has noted is not lost with it, but is no word of the cell's:
// where the keys did not come, and nobody says so, that is what is to be found.

// An arrival is what was noted of a tenant's keys at the cell that it came to last.
type arrival struct {
	cell directory.CellID
	keeper.Receipt
}

// receive notes, once, what a move has brought to a cell. It comes before the tenant's first
// durable write there.
func (r *run) receive(ctx context.Context, k *kept, cell directory.CellID) error {
	if k.came.cell == cell {
		return nil
	}
	got, err := r.keepers[cell].Received(ctx, k.tenant.ID)
	if err == nil {
		k.came = arrival{cell, got}
	}
	return err
}

// unsaid is how long a line of the log may wait for being written: ten milliseconds, and on a busy
// machine for its turn.
const unsaid = time.Second

// wentWithout reports whether a move that has arrived went on without all keys, and that its target has said so, or may
// have: it was killed when the line may still have waited. frozen and decided are when the record says so: the line is
// of between.
func (k *kept) wentWithout(m directory.Move, told bool, frozen, decided time.Time, fallen []death) bool {
	if k.came.Move == m.ID && k.came.All {
		return false
	}
	if told {
		return true
	}
	for _, d := range fallen {
		if d.cell == m.Target && d.after.After(frozen) && d.before.Sub(decided) < unsaid {
			return true
		}
	}
	return false
}

// pauseOf is when a move reached the phases between which its last round was made. The zero times, where it has not, are no time
// that anything was killed at.
func (r *run) pauseOf(ctx context.Context, id directory.MoveID) (frozen, decided time.Time, err error) {
	const reached = `
		SELECT coalesce(min(at) FILTER (WHERE after->>'phase' = 'frozen'), 'epoch'),
		       coalesce(min(at) FILTER (WHERE after->>'phase' = 'decided'), 'epoch')
		  FROM directory.audit
		 WHERE subject = $1`
	err = r.record.QueryRow(ctx, reached, directory.MoveSubject(id)).Scan(&frozen, &decided)
	return frozen, decided, err
}

// withoutKeys reports whether the tenant's newest move went on without all of its keys.
func (r *run) withoutKeys(ctx context.Context, k *kept) (bool, error) {
	m, err := r.newest(ctx, k.tenant.ID)
	if err != nil {
		return false, err
	}
	frozen, decided, err := r.pauseOf(ctx, m.ID)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	fallen := r.fallen[:len(r.fallen):len(r.fallen)]
	r.mu.Unlock()
	return k.wentWithout(m, r.told[m.ID], frozen, decided, fallen), nil
}

// saysWithout is what a cell logs of a move whose keys did not come in time.
const saysWithout = "the move goes on without all of the tenant's redis keys"

// readLosses reads in the cells' logs, from where it ended last, which moves' last rounds
// went on without all of their keys. Their counters do not outlive a cell that is killed.
func (r *run) readLosses() error {
	for _, id := range r.cellIDs() {
		n, err := readLog(filepath.Join(r.state.Dir, "log", string(id)+".log"), r.read[id], r.told)
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", id, err)
		}
		r.read[id] = n
	}
	return nil
}

// readLog adds the moves that a log tells of after the first bytes, and returns where its
// last whole line ends.
func readLog(path string, after int64, found map[directory.MoveID]bool) (int64, error) {
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
			Move  directory.MoveID `json:"move"`
			Final bool             `json:"final"`
		}
		// A line that is not whole is one of a process that was killed.
		if bytes.Contains(line, []byte(saysWithout)) && json.Unmarshal(line, &told) == nil && told.Final {
			found[told.Move] = true
		}
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

const (
	enough = 5  // measured moves say more than what the planner assumes
	timed  = 20 // moves are asked how long they took, each by a question of its own
)

// expects is o with what the newest moves have shown, where it is enough, in place of what is assumed.
func (f fleet) expects(o planner.Options) planner.Options {
	if p, of := f.pause(); of > 0 {
		o.Pause = p
	}
	if factor, of := f.slower(); of > 0 {
		o = o.Slower(factor)
	}
	return o
}

// known is what a forecast is known from: how many moves its time and its pause are the median of; 0: it is assumed.
type known struct {
	TimesMeasured  int `json:"times_measured"`
	PausesMeasured int `json:"pauses_measured"`
}

func (f fleet) known() (k known) {
	_, k.TimesMeasured = f.slower()
	_, k.PausesMeasured = f.pause()
	return k
}

// time and pause say it to people.
func (k known) time() string  { return orAssumed("by how the newest %d moves went", k.TimesMeasured) }
func (k known) pause() string { return orAssumed("the median of %d moves", k.PausesMeasured) }

func orAssumed(measured string, moves int) string {
	if moves == 0 {
		return "assumed"
	}
	return fmt.Sprintf(measured, moves)
}

// pause is the median of the pauses that the newest moves report, and of how many;
// 0 where they are too few.
func (f fleet) pause() (median time.Duration, of int) {
	var all []time.Duration
	for _, m := range f.recent {
		if p := reported(m).Pause; p > 0 {
			all = append(all, p)
		}
	}
	return middle(all)
}

// slower is how many times as long as the planner assumes the newest moves took, the median, and of how many;
// 0 where they are too few. It is a factor, and no speed: most tenants are so small that what
// their moves cost besides copying says nothing of how fast a large one is copied.
func (f fleet) slower() (median float64, of int) { return middle(slices.Clone(f.times)) }

// middle is the median of all, which it sorts, and of how many that is.
func middle[T float64 | time.Duration](all []T) (median T, of int) {
	if len(all) < enough {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}

// readTimes is how long the newest moves took, as multiples of what is assumed for a tenant of that size. Of a move whose
// history is not kept, or cannot be read, nothing is known.
func readTimes(ctx context.Context, d api, recent []directory.Move) []float64 {
	var all []float64
	asked := 0
	for _, m := range recent {
		p := reported(m)
		switched := m.Phase == directory.Watching || m.Phase == directory.Completed || m.Phase == directory.Undone
		if !switched || m.Undoes != "" || m.StopAt != "" || p.Size <= 0 || p.AtLeast { // what it copied is not known, or it has waited for somebody
			continue
		}
		if asked++; asked > timed {
			break
		}
		lines, err := d.Audit(ctx, directory.MoveSubject(m.ID), 0, pageSize)
		if err != nil {
			break
		}
		if took := worked(directory.History(lines)); took > 0 {
			all = append(all, float64(took)/float64(planner.Default().Forecast(planner.Load{Bytes: p.Size}).Duration))
		}
	}
	return all
}

// worked is how long a move took until its target served the tenant; 0 where the history does not tell. The wait for its
// turn, which is what many moves at once spend most of their time with, does not count, nor does what it began with, a look at both cells.
func worked(history []directory.Reached) time.Duration {
	at := func(p directory.Phase) time.Time {
		if i := slices.IndexFunc(history, func(r directory.Reached) bool { return r.Phase == p }); i >= 0 {
			return history[i].At
		}
		return time.Time{}
	}
	begin, end := at(directory.Reserved), at(directory.Activated)
	if begin.IsZero() || end.IsZero() {
		return 0
	}
	return end.Sub(begin)
}

package mover

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/transfer"
)

// comingEvery is how often the target is asked what has come of a round that takes long, and the record is told.
const comingEvery = 5 * time.Second

// tellComing tells the record, and the metric, what has come of the round that the target is taking, until
// stop, which says how many rows the metric has. Nothing of the move depends on it: where the target does not
// say, as one of an older release or another process of its cell, or the directory does not take it, it is left out.
func (w *work) tellComing(ctx context.Context, m transfer.Move, dst Target) (stop func() (counted int64)) {
	ctx, cancel := context.WithCancel(ctx)
	var counted int64
	var wg sync.WaitGroup
	wg.Go(func() {
		var last transfer.Coming
		for w.sleep(ctx, comingEvery) {
			now, err := w.coming(ctx, m, dst)
			if err != nil || now.Rows == last.Rows && now.Bytes == last.Bytes || now.Began.IsZero() {
				continue
			}
			if !now.Began.Equal(last.Began) { // the round of a mover before has ended
				last = transfer.Coming{}
			}
			w.m.rows.Add(float64(max(0, now.Rows-last.Rows)))
			counted += max(0, now.Rows-last.Rows)
			w.noteComing(ctx, now)
			last = now
		}
	})
	return func() int64 {
		cancel()
		wg.Wait() // what is told later would be told over the round's end
		return counted
	}
}

func (w *work) coming(ctx context.Context, m transfer.Move, dst Target) (transfer.Coming, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return dst.Coming(ctx, m)
}

// noteComing records what has come, and leaves everything else as the record has it.
func (w *work) noteComing(ctx context.Context, c transfer.Coming) {
	next, report := w.move, w.report
	report.Coming, next.Error = c, w.told
	next.Report, _ = json.Marshal(report) // plain numbers and times: it cannot fail
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = w.dir.Advance(ctx, next, next.Phase)
}

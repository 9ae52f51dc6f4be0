package mover_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A killed is a cell whose mover is killed at the last round, in the pause.
type killed struct {
	pausing
	kill func()
}

func (c killed) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if final && c.w.awaitFreeze(ctx, m) {
		c.kill()
		return transfer.Received{}, errNet
	}
	return c.pausing.Pull(ctx, m, url, final)
}

// A muted is the directory of a mover that says nothing more once it is dead, not even that it is. Its clock is
// ahead of everybody's: the other way round, the directory's is behind for it.
type muted struct {
	*directorytest.Memory
	dead  *atomic.Bool
	ahead time.Duration
}

func (d muted) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	if d.dead.Load() {
		return directory.Move{}, errNet
	}
	m, err := d.Memory.LeaseMove(ctx, id, holder, ttl)
	m.Leased = m.Leased.Add(-d.ahead)
	return m, err
}

func (d muted) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	if d.dead.Load() {
		return errNet
	}
	var report mover.Report
	if err := json.Unmarshal(m.Report, &report); err == nil && !report.Frozen.IsZero() {
		report.Frozen = report.Frozen.Add(d.ahead)
		m.Report, _ = json.Marshal(report)
	}
	return d.Memory.Advance(ctx, m, from)
}

// TestEveryPauseIsMeasured: what a tenant waited is in the report and in the metric once, however its pause ended and
// whoever began it, by whatever clock; where it did not wait, nothing is.
func TestEveryPauseIsMeasured(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		p       *pause
		killed  bool          // the mover that froze the tenant
		ahead   time.Duration // its clock
		cancels bool          // long before the pause
		want    directory.Phase
		least   time.Duration
	}{
		"it arrives":                      {p: &pause{}, want: directory.Watching},
		"the target is dead":              {p: &pause{dead: true}, want: directory.Aborted, least: 300 * time.Millisecond},
		"and the source hears late":       {p: &pause{dead: true, refuses: 60}, want: directory.Aborted, least: time.Second},
		"and a million keys were noted":   {p: &pause{dead: true, forgets: 30 * time.Second}, want: directory.Aborted, least: 300 * time.Millisecond},
		"taken over, and arrives":         {p: &pause{}, killed: true, want: directory.Watching, least: time.Second},
		"from one whose clock is ahead":   {p: &pause{}, killed: true, ahead: time.Hour, want: directory.Watching, least: time.Second},
		"from one whose clock is behind":  {p: &pause{}, killed: true, ahead: -time.Hour, want: directory.Watching, least: time.Second},
		"and the freeze was tried before": {p: &pause{busy: 5}, killed: true, want: directory.Watching, least: time.Second},
		"taken over, the target is dead":  {p: &pause{dead: true}, killed: true, want: directory.Aborted, least: time.Second},
		"the freeze is not recorded":      {p: &pause{recordFails: true}, want: directory.Watching},
		"cancelled before it was to wait": {p: &pause{}, cancels: true, want: directory.Aborted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				p := tt.p
				dir, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
				if tt.killed {
					life, die := context.WithCancel(ctx)
					var dead atomic.Bool
					first := mover.New(settings("m1"), muted{dir, &dead, tt.ahead}, func(c directory.Cell) mover.Cell {
						return killed{pausing{w.cells[c.ID], p}, func() { dead.Store(true); die() }}
					}, slog.New(slog.DiscardHandler))
					if err := first.Run(life); err != nil {
						t.Fatal(err)
					}
				}
				if tt.cancels {
					if _, err := dir.AskMove(ctx, m.ID, directory.Cancel); err != nil {
						t.Fatal(err)
					}
				}
				v := mover.New(settings("m2"), pausingDirectory{dir, p}, func(c directory.Cell) mover.Cell { return pausing{w.cells[c.ID], p} },
					slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				m, err := settle(ctx, dir, m.ID)
				if err != nil || m.Phase != tt.want {
					t.Fatalf("got %s (%s), %v, want %s", m.Phase, m.Error, err, tt.want)
				}
				var report mover.Report
				if err := json.Unmarshal(m.Report, &report); err != nil {
					t.Fatal(err)
				}
				if p.forgot != (tt.want == directory.Aborted) {
					t.Errorf("the source forgot what it had noted: %v", p.forgot)
				}
				count, sum := pauses(t, v)
				if tt.cancels {
					if count != 0 || report.Pause != 0 || !report.Frozen.IsZero() {
						t.Errorf("nobody waited: %d pauses, the report says %v", count, report.Pause)
					}
					return
				}
				waited := time.Duration(p.ended.Load() - p.began.Load())
				if off := (report.Pause - waited).Abs(); off > 50*time.Millisecond || waited < tt.least || !report.Frozen.IsZero() {
					t.Errorf("the tenant waited %v, the report says %v", waited, report.Pause)
				}
				if off := (sum - report.Pause).Abs(); count != 1 || off > time.Microsecond {
					t.Errorf("the metric has %d pauses of %v, the report %v", count, sum, report.Pause)
				}
			})
		})
	}
}

// pauses is how many pauses the mover has measured, and their sum.
func pauses(t *testing.T, v *mover.Mover) (uint64, time.Duration) {
	t.Helper()
	h := metric(t, v, "move_write_pause_seconds").GetHistogram()
	return h.GetSampleCount(), time.Duration(h.GetSampleSum() * float64(time.Second))
}

// metric is one of the mover's that has no labels.
func metric(t *testing.T, v *mover.Mover, name string) *dto.Metric {
	t.Helper()
	reg := prometheus.NewRegistry()
	v.Register(reg)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() == name {
			return m.GetMetric()[0]
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

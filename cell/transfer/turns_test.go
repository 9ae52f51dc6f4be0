package transfer_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/transfer"
)

// zeros is a source that always has more.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// copying is a copy of zeros that has its first turn; take reads so many.
func copying(ctx context.Context, p *transfer.Pace) (take func(n int64) error, done func(), err error) {
	r, done, err := p.Copying(ctx, zeros{})
	return func(n int64) error {
		_, err := io.CopyN(io.Discard, r, n)
		return err
	}, done, err
}

// TestCopiesTakeTurns: of two copies one works, until it has had its turn's bytes or
// has ended; one that nobody waits for keeps its turn.
func TestCopiesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := transfer.NewPace(transfer.PaceOptions{}), time.Now()
		take, done, err := copying(t.Context(), p)
		must(t, err)
		must(t, take(transfer.TurnBytes))
		must(t, take(transfer.TurnBytes))
		second, ended := make(chan struct{}), make(chan struct{})
		go func() {
			_, done, err := copying(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			close(second)
			<-ended
			done()
		}()
		synctest.Wait()
		select {
		case <-second:
			t.Error("two copies work at once")
		default:
		}
		first := make(chan error, 1)
		go func() { first <- take(transfer.TurnBytes) }()
		synctest.Wait()
		<-second
		select {
		case <-first:
			t.Error("the first one goes on during the second's turn")
		default:
		}
		close(ended)
		must(t, <-first)
		done()
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v although there was a turn", took)
		}
	})
}

// TestNobodyWaitsForACopyThatHangs: who has a turn may wait for its source; the others
// wait no longer than a second for it, and not at all once their call is over.
func TestNobodyWaitsForACopyThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := transfer.NewPace(transfer.PaceOptions{})
		_, hangs, err := copying(t.Context(), p)
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), transfer.TurnAtMost/2)
		defer cancel()
		if _, _, err := copying(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the call's own end", err)
		}
		began := time.Now()
		_, done, err := copying(t.Context(), p)
		must(t, err)
		if took := time.Since(began); took != transfer.TurnAtMost {
			t.Errorf("got a turn after %v, want %v", took, transfer.TurnAtMost)
		}
		done()
		hangs()
		if _, done, err = copying(t.Context(), p); err != nil || time.Since(began) != transfer.TurnAtMost {
			t.Errorf("all have ended: got %v after %v", err, time.Since(began))
		} else {
			done()
		}
	})
}

// TestATurnOfACopyThatHasEnded: one that has ended while it waited for its next turn
// does not keep it.
func TestATurnOfACopyThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, began := transfer.NewPace(transfer.PaceOptions{}), time.Now()
		take, ends, err := copying(t.Context(), p)
		must(t, err)
		second := make(chan func())
		go func() {
			_, done, err := copying(t.Context(), p)
			if err != nil {
				t.Error(err)
			}
			second <- done
		}()
		synctest.Wait()
		reading := make(chan error)
		go func() { reading <- take(2 * transfer.TurnBytes) }()
		done := <-second
		synctest.Wait()
		ends() // its transaction has failed; who read for it still waits
		done()
		must(t, <-reading)
		_, done, err = copying(t.Context(), p)
		must(t, err)
		done()
		if took := time.Since(began); took != 0 {
			t.Errorf("a turn came back after %v", took)
		}
	})
}

// TestCopiesSideBySide: as many as the tenants do not feel work side by side, and one
// where they do.
func TestCopiesSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := transfer.NewPace(transfer.PaceOptions{})
		ended := make(chan error, 9)
		go func() { ended <- p.Run(ctx) }()
		for range 8 {
			go func() {
				take, done, err := copying(ctx, p)
				for err == nil && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond) // virtual: its work
					err = take(transfer.TurnBytes / 4)
				}
				if done != nil {
					done()
				}
				ended <- nil
			}()
		}
		after := func(d, took time.Duration) float64 {
			for ; d > 0; d -= 10 * time.Millisecond {
				for range 5 {
					p.Observe(took)
				}
				time.Sleep(10 * time.Millisecond) // virtual
			}
			return metric(t, p, "move_pace_copies")
		}
		if got := metric(t, p, "move_pace_copies"); got != 1 {
			t.Errorf("at first: got %v, want 1", got)
		}
		calm := after(10*time.Second, 5*time.Millisecond)
		if calm < 4 {
			t.Errorf("tenants do not feel it: got %v, want more of them", calm)
		}
		if got := after(2*time.Second, 300*time.Millisecond); got != 1 {
			t.Errorf("tenants feel it: got %v, want 1", got)
		}
		cancel()
		for range 9 {
			<-ended
		}
	})
}

package cell

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

func TestATenantWaitsForItsOwnShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShares(8) // four for each
		release := make(chan struct{})
		ended, entered := make(chan error, 20), make(chan struct{}, 20)
		for range 20 {
			go func() {
				ended <- s.within(t.Context(), 1, func(context.Context) error {
					entered <- struct{}{}
					<-release
					return nil
				})
			}()
		}
		synctest.Wait()
		if n := len(entered); n != 4 {
			t.Errorf("%d are inside, want 4", n)
		}
		done := func(context.Context) error { return nil }
		if err := s.within(t.Context(), 2, done); err != nil {
			t.Error(err)
		}
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.within(late, 1, done); !errors.Is(err, problem.RateLimited) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over its share: got %v", err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := s.within(gone, 1, done); !errors.Is(err, context.Canceled) || errors.Is(err, problem.RateLimited) {
			t.Errorf("a caller that went away: got %v", err)
		}
		close(release)
		for range 20 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if len(s.of) != 0 {
			t.Errorf("%d idle tenants are left", len(s.of))
		}
	})
}

func TestWhatIsWithinDoesNotWaitForItself(t *testing.T) {
	t.Parallel()
	s := newShares(4) // one for each
	boom := errors.New("boom")
	err := s.within(t.Context(), 1, func(ctx context.Context) error {
		return s.within(ctx, 1, func(context.Context) error { return boom })
	})
	if !errors.Is(err, boom) || len(s.of) != 0 {
		t.Errorf("got %v, %d idle tenants", err, len(s.of))
	}
}

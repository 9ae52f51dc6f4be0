package loadtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cellway/cellway/infra/run"
)

// Pause is run.Pause, by a name that packages with a run of their own can use.
func Pause(ctx context.Context, d time.Duration) bool { return run.Pause(ctx, d) }

// Until calls done every so often until it reports true. An error of done ends
// the wait; when ctx ends first, the error says what was waited for.
func Until(ctx context.Context, what string, every time.Duration, done func(ctx context.Context) (bool, error)) error {
	for {
		ok, err := done(ctx)
		if ok && err == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if !Pause(ctx, every) {
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}

// The pause between two attempts of one write grows from backoffFirst to backoffMost.
const (
	backoffFirst = 25 * time.Millisecond
	backoffMost  = 500 * time.Millisecond
)

// backoff is the pause before attempt n (from 1), with jitter, so that the
// clients of a cell that comes back do not all knock at once.
func backoff(rng *rand.Rand, n int) time.Duration {
	d := min(backoffFirst<<min(n-1, 10), backoffMost)
	return d/2 + time.Duration(rng.Int64N(int64(d)))
}

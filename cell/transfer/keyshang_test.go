package transfer_test

import (
	"context"
	"testing"
	"time"
)

// TestASmallTenantDoesNotWaitForRedis: a tenant that is copied in its pause has one round, the last one; a Redis that
// hangs is given as little time there as in any last round.
func TestASmallTenantDoesNotWaitForRedis(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than a copy outside a pause waits for Redis
	defer cancel()
	b.side.Wait = time.Millisecond
	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	must(t, a.Client.Freeze(ctx, there, wait))
	must(t, a.raw.Do(ctx, "CLIENT", "PAUSE", "60000", "WRITE").Err()) // the fence at the source's keys is one
	t.Cleanup(func() { _ = a.raw.Do(context.WithoutCancel(ctx), "CLIENT", "UNPAUSE").Err() })
	got, err := b.Pull(ctx, there, a.url, true)
	if err != nil || !got.Final {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got := b.lost(t); got != "1 1" {
		t.Errorf("lost: got %s, want 1 1: the last round went on without the keys", got)
	}
}

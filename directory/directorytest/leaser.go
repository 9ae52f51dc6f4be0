package directorytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// Leases is a leaser under test, with a way to take every lease called name from
// its holder behind its back.
type Leases struct {
	directory.Leaser
	Break func(t *testing.T, name string)
}

// RunLeaser holds a Leaser to the comments of the contract. open gives a fresh
// one per subtest.
func RunLeaser(t *testing.T, open func(t *testing.T) Leases) {
	for name, test := range map[string]func(context.Context, *testing.T, Leases){
		"WaitsForItsTurn": testLeaseWaits,
		"Release":         testLeaseRelease,
		"EndsWithContext": testLeaseContext,
		"Broken":          testLeaseBroken,
		"OneAtATime":      testLeaseExclusive,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			t.Cleanup(cancel)
			test(ctx, t, open(t))
		})
	}
}

func acquire(ctx context.Context, t *testing.T, l Leases, name, holder string) directory.Lease {
	t.Helper()
	lease, err := l.Acquire(ctx, name, holder)
	if err != nil {
		t.Fatalf("acquire %s as %s: %v", name, holder, err)
	}
	t.Cleanup(func() { _ = lease.Release() })
	if err := lease.Context().Err(); err != nil {
		t.Fatalf("a lease just acquired: got %v, want it live", err)
	}
	return lease
}

func release(t *testing.T, lease directory.Lease) {
	t.Helper()
	if err := lease.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
}

func testLeaseWaits(ctx context.Context, t *testing.T, l Leases) {
	first := acquire(ctx, t, l, "job", "a")
	release(t, acquire(ctx, t, l, "another job", "a")) // names do not exclude each other
	second := make(chan directory.Lease, 1)
	go func() {
		lease, err := l.Acquire(ctx, "job", "b")
		if err != nil {
			t.Errorf("acquire after a: %v", err)
		}
		second <- lease
	}()
	brief, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := l.Acquire(brief, "job", "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acquire until ctx ends: got %v, want deadline exceeded", err)
	}
	select {
	case <-second:
		t.Fatal("b has the lease that a holds")
	default:
	}
	release(t, first)
	lease := <-second
	if lease == nil || lease.Context().Err() != nil {
		t.Fatal("b's lease is not live")
	}
	release(t, lease)
}

func testLeaseRelease(ctx context.Context, t *testing.T, l Leases) {
	lease := acquire(ctx, t, l, "job", "a")
	release(t, lease)
	if lease.Context().Err() == nil {
		t.Error("the context of a released lease is live")
	}
	release(t, lease)
	release(t, acquire(ctx, t, l, "job", "b"))
}

func testLeaseContext(ctx context.Context, t *testing.T, l Leases) {
	own, cancel := context.WithCancel(ctx)
	lease := acquire(own, t, l, "job", "a")
	cancel()
	<-lease.Context().Done()
	release(t, acquire(ctx, t, l, "job", "b")) // without a's Release
	release(t, lease)
}

func testLeaseBroken(ctx context.Context, t *testing.T, l Leases) {
	lease := acquire(ctx, t, l, "job", "a")
	l.Break(t, "job")
	select {
	case <-lease.Context().Done():
	case <-ctx.Done():
		t.Fatal("the lease was taken away and its context is live")
	}
	if cause := context.Cause(lease.Context()); errors.Is(cause, context.Canceled) {
		t.Errorf("cause: got %v, want why it was lost", cause)
	}
	release(t, acquire(ctx, t, l, "job", "b"))
	release(t, lease)
}

func testLeaseExclusive(ctx context.Context, t *testing.T, l Leases) {
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for range 2 {
				lease, err := l.Acquire(ctx, "job", fmt.Sprint("holder-", i))
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lease at once", n)
				}
				inside.Add(-1)
				release(t, lease)
			}
		})
	}
	wg.Wait()
}

package cell_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/worker"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

// live starts what a cell does besides serving requests, until the end of the test.
func (h *harness) live() {
	h.t.Helper()
	rdb := testkit.RedisClient(h.t, h.redisURL)
	quiet, m := slog.New(slog.DiscardHandler), projects.New(nil, nil)
	w, err := worker.New(h.store, rdb, m.Consumers(), worker.Options{Log: quiet})
	if err != nil {
		h.t.Fatal(err)
	}
	j, err := jobs.NewRunner(h.store, m.Jobs(), jobs.Options{Log: quiet, Poll: 50 * time.Millisecond})
	if err != nil {
		h.t.Fatal(err)
	}
	relay := outbox.NewRelay(h.store, rdb, outbox.RelayOptions{Log: quiet})
	ctx, cancel := context.WithCancel(h.t.Context())
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{w.Run, j.Run, relay.Run, h.db.Run} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				h.t.Error(err)
			}
		})
	}
	h.t.Cleanup(func() {
		cancel()
		all.Wait()
	})
}

// activity is what happened to the tenant, so far, as "type subject".
func (h *harness) activity(tenant directory.TenantID) (out []string) {
	h.t.Helper()
	page := decode[projects.ActivityPage](h.t, h.want(200, request{tenant: tenant, method: "GET", path: "/v1/activity?limit=200"}))
	for _, a := range page.Items {
		out = append(out, a.Type+" "+a.Subject)
	}
	return out
}

// until polls with a deadline.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

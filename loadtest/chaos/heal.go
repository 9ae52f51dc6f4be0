package chaos

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/loadtest"
)

// healBound bounds how long a process may take to run again.
const healBound = 90 * time.Second

// restart starts a process that was killed, again and again: what it needs may
// be dead as well, and a Postgres waits for what is left of the one before it.
func (r *run) restart(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, healBound)
	defer cancel()
	for {
		err := r.stack.StartProcess(ctx, name)
		if err == nil {
			return nil
		}
		if !loadtest.Pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// heal starts whatever does not run: who is asked before who asks.
func (r *run) heal(ctx context.Context) error {
	servers := []string{"directory-postgres"}
	var apis, rest []string
	for _, c := range r.state.Cells {
		servers = append(servers, c.ID+"-postgres", c.ID+"-redis")
		apis = append(apis, c.ID)
		rest = append(rest, c.ID+"-worker")
	}
	for _, m := range r.state.Movers {
		rest = append(rest, m.ID)
	}
	for _, m := range r.state.Routers {
		rest = append(rest, m.ID)
	}
	for _, group := range [][]string{servers, {"directory"}, apis, rest} {
		g, ctx := errgroup.WithContext(ctx)
		for _, name := range group {
			g.Go(func() error { return r.restart(ctx, name) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return r.answer(ctx)
}

// answer waits until every database answers: one that lost a backend recovers,
// although its process was never gone.
func (r *run) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healBound)
	defer cancel()
	all := append(slices.Collect(maps.Values(r.cells)), r.record)
	for _, db := range all {
		err := loadtest.Until(ctx, "every Postgres to answer", 20*time.Millisecond, func(ctx context.Context) (bool, error) {
			return db.Ping(ctx) == nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

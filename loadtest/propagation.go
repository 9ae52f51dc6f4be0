package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/infra/problem"
)

// pollPause is the pause between two looks at a router while a change is on its
// way: the resolution of the measurement, and long enough that the looks do not
// become the load.
const pollPause = 5 * time.Millisecond

// Propagation measures how long a change of a route takes from the directory to
// all routers. n times it gives the tenant a host name of its own instead of the
// last one; the change has arrived when a request for that name through each
// router is no longer answered by "no such tenant", which a router says by
// itself. The clock starts before the change is sent, so each figure holds the
// directory's commit and its answer, and the last look at the slowest router.
func Propagation(ctx context.Context, c *Console, t *Tenant, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		d, err := propagate(ctx, c, t, fmt.Sprintf("h%d.%s.example.net", i+1, t.Slug))
		if err != nil {
			return took, fmt.Errorf("measure propagation, change %d: %w", i+1, err)
		}
		took = append(took, d)
	}
	return took, nil
}

// propagateTimeout bounds one change.
const propagateTimeout = 20 * time.Second

func propagate(ctx context.Context, c *Console, t *Tenant, host string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, propagateTimeout)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for router := range t.ep.Routers() {
		g.Go(func() error {
			return Until(ctx, fmt.Sprintf("router %d to serve the change", router+1), pollPause, func(ctx context.Context) (bool, error) {
				a, err := t.Do(ctx, Request{Path: "/v1/projects?limit=1", Host: host, Router: router + 1})
				return err == nil && !errors.Is(a.Problem(), problem.TenantNotFound), err
			})
		})
	}
	path := "/v1/tenants/" + strconv.FormatInt(int64(t.ID), 10)
	if err := c.Call(ctx, http.MethodPatch, path, map[string]any{"hosts": []string{host}}, nil); err != nil {
		cancel()
		_ = g.Wait() // the pollers end with ctx
		return 0, err
	}
	err := g.Wait()
	return time.Since(start), err
}

package loadtest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/infra/problem"
)

// A Console calls the directory as an operator does.
type Console struct {
	dir   *Endpoint
	token string
}

// NewConsole makes a Console for the directory at url with an operator's token.
func NewConsole(url, token string) *Console { return &Console{NewEndpoint(url), token} }

// Close ends the connections that nobody uses.
func (c *Console) Close() { c.dir.Close() }

// Call sends a request and reads the answer into into, unless that is nil.
func (c *Console) Call(ctx context.Context, method, path string, body, into any) error {
	a, err := c.dir.Do(ctx, Request{Method: method, Path: path, Body: body, Token: c.token})
	if err != nil {
		return err
	}
	if err := a.Problem(); err != nil || into == nil {
		return err
	}
	return a.Decode(into)
}

// pollPause is the pause between two looks at a router while a change is on its
// way: the resolution of the measurement.
const pollPause = time.Millisecond

// Propagation measures how long a change of a route takes from the directory to
// all routers. It suspends the tenant and resumes it, n changes in all; a change
// has arrived when a request of the tenant through each router is answered by
// the new state. The clock starts before the change is sent, so each figure
// holds the directory's commit and its answer, and one look at the slowest router.
func Propagation(ctx context.Context, c *Console, t *Tenant, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		suspend := i%2 == 0
		d, err := propagate(ctx, c, t, suspend)
		if err != nil {
			return took, fmt.Errorf("measure propagation, change %d: %w", i+1, err)
		}
		took = append(took, d)
	}
	if n%2 == 1 {
		_, err := propagate(ctx, c, t, false)
		return took, err
	}
	return took, nil
}

// propagateTimeout bounds one change.
const propagateTimeout = 20 * time.Second

func propagate(ctx context.Context, c *Console, t *Tenant, suspend bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, propagateTimeout)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for router := range t.ep.Routers() {
		g.Go(func() error {
			return Until(ctx, fmt.Sprintf("router %d to serve the change", router+1), pollPause, func(ctx context.Context) (bool, error) {
				a, err := t.Do(ctx, Request{Path: "/v1/projects?limit=1", Router: router + 1})
				if err != nil {
					return false, err
				}
				refused := problem.KindOf(a.Problem()) == problem.TenantSuspended
				return refused == suspend, nil
			})
		})
	}
	path := "/v1/tenants/" + strconv.FormatInt(int64(t.ID), 10)
	if err := c.Call(ctx, http.MethodPatch, path, map[string]bool{"suspended": suspend}, nil); err != nil {
		cancel()
		_ = g.Wait() // the pollers end with ctx
		return 0, err
	}
	err := g.Wait()
	return time.Since(start), err
}

package loadtest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Plan says how a tenant works.
type Plan struct {
	Seed  uint64        // what it does follows from the seed and its slug
	Lanes int           // how many requests it has under way at most; 0 is 1
	Think time.Duration // pause between two operations of a lane, at most twice as long
	Dated bool          // some tasks get a date, and are left alone from then on: each falls due once
	Limit int           // its requests a minute, where GivenBack is to tell what cells forget of them
}

// A Tenant is one customer: it writes, remembers what was acknowledged, and checks.
type Tenant struct {
	directory.Tenant
	Token string

	ep    *Endpoint
	rec   *Recorder
	plan  Plan
	lanes []*lane
	left  allowance
}

// signedUp is the answer to POST /signup.
type signedUp struct {
	Tenant directory.Tenant `json:"tenant"`
	Token  string           `json:"token"`
}

// SignUp makes a tenant over the public API and waits until every router routes
// it. Which cell it gets is the directory's choice.
func SignUp(ctx context.Context, ep *Endpoint, rec *Recorder, slug string, plan Plan) (*Tenant, error) {
	a, err := knock(ctx, ep, Request{Path: "/signup", Body: map[string]string{"slug": slug, "name": "Load test " + slug}})
	if err != nil {
		return nil, fmt.Errorf("sign up %s: %w", slug, err)
	}
	var out signedUp
	if err := a.Decode(&out); err != nil {
		return nil, fmt.Errorf("sign up %s: %w", slug, err)
	}
	if a.Status != http.StatusCreated || out.Token == "" || out.Tenant.ID == 0 {
		return nil, fmt.Errorf("sign up %s: answer is not a tenant with a token: %s", slug, a)
	}
	t := Adopt(ep, rec, out.Tenant, out.Token, plan)
	return t, t.AwaitRoute(ctx)
}

// knock makes one attempt, and further ones as long as the answer is that there
// were too many: everybody signs up from one address here.
func knock(ctx context.Context, ep *Endpoint, r Request) (Answer, error) {
	return patiently(ctx, func() (Answer, error) { return ep.Do(ctx, r) })
}

// patiently makes one attempt, and further ones, as late as is asked for, as long as the answer is that there were too many.
func patiently(ctx context.Context, attempt func() (Answer, error)) (Answer, error) {
	for {
		a, err := attempt()
		limited, ok := errors.AsType[*problem.Error](a.Problem())
		if err != nil || !ok || limited.Kind != problem.RateLimited {
			return a, err
		}
		if !Pause(ctx, max(limited.RetryAfter, backoffMost)) {
			return a, context.Cause(ctx)
		}
	}
}

// Adopt makes a Tenant of one that exists already.
func Adopt(ep *Endpoint, rec *Recorder, of directory.Tenant, token string, plan Plan) *Tenant {
	t := &Tenant{Tenant: of, Token: token, ep: ep, rec: rec, plan: plan, left: allowance{perMinute: plan.Limit}}
	for i := range max(plan.Lanes, 1) {
		t.lanes = append(t.lanes, newLane(t, i))
	}
	return t
}

// AwaitRoute waits until every router knows the tenant.
func (t *Tenant) AwaitRoute(ctx context.Context) error {
	for router := range t.ep.Routers() {
		err := Until(ctx, fmt.Sprintf("router %d to route %s", router+1, t.Slug), 5*time.Millisecond, func(ctx context.Context) (bool, error) {
			a, err := t.Do(ctx, Request{Path: "/v1/projects?limit=1", Router: router + 1})
			return err == nil && !errors.Is(a.Problem(), problem.TenantNotFound), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Cell is the cell that owned the tenant when it signed up.
func (t *Tenant) Cell() directory.CellID { return t.Placement.Cell }

// Do makes one attempt in the tenant's name; it is not recorded. A tenant whose plan knows of a limit waits where it has used
// that up: who looks at everything that it has written asks often.
func (t *Tenant) Do(ctx context.Context, r Request) (Answer, error) {
	if r.Token == "" {
		r.Token = t.Token
	}
	if t.plan.Limit == 0 {
		return t.ep.Do(ctx, r)
	}
	return patiently(ctx, func() (Answer, error) {
		known, sent := t.left.mark(), time.Now()
		a, err := t.ep.Do(ctx, r)
		if a.Status < 500 { // what a cell could not do it may have counted when the tenant was gone already
			t.left.answered(known, sent, time.Now(), a.Header)
		}
		return a, err
	})
}

// get reads the answer to a question into into.
func (t *Tenant) get(ctx context.Context, path string, into any) error {
	a, err := t.Do(ctx, Request{Path: path})
	if err != nil {
		return err
	}
	return a.Decode(into)
}

// Work lets the tenant's lanes work until stop is closed. A lane finishes the
// operation that it has begun: it repeats a write with the same Idempotency-Key
// until it is acknowledged, so that after an orderly end written and
// acknowledged are equal. The error is the first answer that no retry can mend,
// or that of ctx, which ends the work at once.
func (t *Tenant) Work(ctx context.Context, stop <-chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range t.lanes {
		g.Go(func() error { return l.work(ctx, stop) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("tenant %s on %s: %w", t.Slug, t.Cell(), err)
	}
	return nil
}

// Writes is every acknowledged write, lane by lane, in the order of each lane.
// It must not be called while Work runs.
func (t *Tenant) Writes() []Write {
	var all []Write
	for _, l := range t.lanes {
		all = append(all, l.writes...)
	}
	return slices.Clip(all)
}

// seeded is a random source that follows from the plan's seed, the tenant and n.
func (t *Tenant) seeded(n int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", t.Slug, n)
	return rand.New(rand.NewPCG(t.plan.Seed, h.Sum64()))
}

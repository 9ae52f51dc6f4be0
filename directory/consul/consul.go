// Package consul lets Consul say which cells are alive and who does singleton
// work: [Membership] registers cells as services with a TTL check and finds them
// by blocking queries, [Leaser] keeps leases as sessions with a lock.
//
// It is an adapter beside the directory's own Postgres (store.Membership,
// store.Leaser), for those who run Consul anyway. No tenant is ever in it: it
// holds a few keys per installation and decides nothing about who owns whom.
package consul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/cellway/cellway/infra/run"
)

// A Client speaks to one agent, usually the one on this machine.
type Client struct{ api *api.Client }

// New makes a Client for the agent at address (host:port). The standard variables
// of Consul (CONSUL_HTTP_TOKEN, CONSUL_CACERT, ...) count. It does not connect.
func New(address string) (*Client, error) {
	cfg := api.DefaultConfig()
	cfg.Address = address
	c, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure consul: %w", err)
	}
	return &Client{c}, nil
}

// callTimeout bounds a call that does not wait.
const callTimeout = 5 * time.Second

// pollTime is how long one blocking query waits at the agent.
const pollTime = 10 * time.Second

// short is a context for a call that does not wait.
func short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// blocking are the options of a query that waits for something newer than index,
// at most for wait; 0 does not wait. The agent adds up to a sixteenth to the wait.
func blocking(ctx context.Context, index uint64, wait time.Duration) (*api.QueryOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/8+callTimeout)
	return (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx), cancel
}

// pause waits for d, a quarter more or less; the error is ctx's.
func pause(ctx context.Context, d time.Duration) error {
	if run.Pause(ctx, d*3/4+rand.N(d/2)) {
		return nil
	}
	return ctx.Err()
}

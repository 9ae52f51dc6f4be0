package cell

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// A call is what the cell knows of the request that it serves. It belongs to the
// request's goroutine.
type call struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	module string    // label of metrics; "none" until the route is known
	route  string    // path template; "none" until the route is known
	body   []byte    // as received
	tx     *store.Tx // the transaction that the request runs in, where it has one

	committed atomic.Bool // a transaction of the request has: what comes later cannot be refused as if nothing had been done

	peer   context.Context // of the connection: a stream has this end, and not the request's deadline
	began  time.Time
	opened time.Duration // of a stream: from its arrival to the answer's beginning; 0 of others
}

// took is how long the request has taken; of a stream, to open it.
func (c *call) took() time.Duration {
	if c.opened > 0 {
		return c.opened
	}
	return time.Since(c.began)
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callFrom is the call of ctx, nil outside of a request.
func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

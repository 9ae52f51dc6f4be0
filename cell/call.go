package cell

import (
	"context"

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

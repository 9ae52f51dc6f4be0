package transfer

import (
	"context"
	"sync"

	"github.com/cellway/cellway/infra/pg"
)

// A tableCache keeps the catalog between the rounds of moves, so that the last
// round, inside the pause, does not read it. The first round of each move reads
// it anew, and so does the round after one that the server has refused, because a
// table may have been altered meanwhile.
type tableCache struct {
	mu   sync.Mutex
	list []Table
}

func (c *tableCache) get(ctx context.Context, db pg.DB, fresh bool) ([]Table, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list != nil && !fresh {
		return c.list, nil
	}
	list, err := Tables(ctx, db)
	if err == nil {
		c.list = list
	}
	return list, err
}

// refused forgets the catalog where err is of the server.
func (c *tableCache) refused(err error) {
	if pg.Code(err) == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
}

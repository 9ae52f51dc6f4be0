package benchmove

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// busy writes in tenants' names, one after the other without a pause, n clients
// on one database, until it is stopped.
type busy struct {
	commits atomic.Int64
	stop    func() error
}

func startBusy(ctx context.Context, url string, first directory.TenantID, n int) *busy {
	b := &busy{}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i := range n {
		wg.Go(func() {
			err := connected(ctx, url, func(conn *pgx.Conn) error {
				for ctx.Err() == nil {
					if err := insertOne(ctx, conn, first+directory.TenantID(i), 1); err != nil {
						return err
					}
					b.commits.Add(1)
				}
				return nil
			})
			if err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	b.stop = func() error {
		cancel()
		wg.Wait()
		return failed
	}
	return b
}

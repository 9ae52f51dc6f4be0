package keep

import (
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/run"
)

// Erase deletes, batch by batch with a rest between, every key of a tenant that was
// deleted at the epoch, of whatever class, but the fence, which refuses late writes.
// Caches are in no index: all of Redis is looked through for them, which costs a few
// milliseconds for each 10,000 keys, in small pieces. Conflict: the cell has seen a
// later epoch.
func (k *Keep) Erase(ctx context.Context, t directory.TenantID, at directory.Epoch, rest time.Duration) error {
	if err := k.Purge(ctx, t, at); err != nil {
		return err
	}
	fence := namesOf(t).fence
	for cursor := uint64(0); ; {
		err := k.try(ctx, func(ctx context.Context) error {
			found, next, err := k.rdb.Scan(ctx, cursor, prefix(t)+"*", pageKeys).Result()
			if err != nil {
				return err
			}
			cursor = next
			found = slices.DeleteFunc(found, func(name string) bool { return name == fence })
			if len(found) == 0 {
				return nil
			}
			return k.rdb.Unlink(ctx, found...).Err()
		})
		if err != nil || cursor == 0 {
			return err
		}
		if !run.Pause(ctx, rest) {
			return ctx.Err()
		}
	}
}

package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

const (
	erasePage    = 50               // an entry may have 256 KiB
	eraseTimeout = 10 * time.Second // of one page
)

// An Eraser removes a tenant's events from the cell's stream, which its neighbours
// share. Consumers take what is gone for trimmed.
type Eraser struct{ rdb *redis.Client }

// NewEraser makes an Eraser on the cell's Redis.
func NewEraser(rdb *redis.Client) Eraser { return Eraser{rdb} }

// Erase removes them, page by page with a rest between. It reads the whole stream:
// nothing says where a tenant's entries are. Unavailable: Redis does not answer.
func (e Eraser) Erase(ctx context.Context, t directory.TenantID, rest time.Duration) error {
	stream := Stream(Partition(t))
	for from := "-"; ; {
		last, err := e.page(ctx, t, stream, from)
		if err != nil {
			return problem.Wrap(problem.Unavailable, err, fmt.Sprintf("erase events of tenant %d", t))
		}
		if last == "" {
			return nil
		}
		from = "(" + last
		if !run.Pause(ctx, rest) {
			return ctx.Err()
		}
	}
}

// page looks through a page of the stream and returns its last entry, "" where it was
// the last page.
func (e Eraser) page(ctx context.Context, t directory.TenantID, stream, from string) (last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, eraseTimeout)
	defer cancel()
	list, err := e.rdb.XRangeN(ctx, stream, from, "+", erasePage).Result()
	if err != nil {
		return "", err
	}
	var found []string
	for _, m := range list {
		if event, err := FromEntry(m.Values); err == nil && event.Tenant == t {
			found = append(found, m.ID)
		}
	}
	if len(found) > 0 {
		if err := e.rdb.XDel(ctx, stream, found...).Err(); err != nil {
			return "", err
		}
	}
	if len(list) < erasePage {
		return "", nil
	}
	return list[len(list)-1].ID, nil
}

package outbox

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/directory"
)

// TestEraseLeavesTheNeighboursEvents: in the stream that they share, over several pages.
func TestEraseLeavesTheNeighboursEvents(t *testing.T) {
	t.Parallel()
	rdb := openRedis(t)
	ctx := t.Context()
	gone := directory.TenantID(1)
	stays := gone + 1
	for Partition(stays) != Partition(gone) {
		stays++
	}
	stream := Stream(Partition(gone))
	pipe := rdb.Pipeline()
	for i := range int64(2*erasePage + 1) {
		for _, id := range []directory.TenantID{gone, stays} {
			body, err := json.Marshal(Event{ID: fmt.Sprint(i), Tenant: id, Seq: i + 1, Type: "com.cellway.a.b.v1", Subject: "a", Data: json.RawMessage(`{}`)})
			if err != nil {
				t.Fatal(err)
			}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{field, body}})
		}
	}
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"odd", "entry"}})
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, it finds nothing
		if err := NewEraser(rdb).Erase(ctx, gone, 0); err != nil {
			t.Fatal(err)
		}
		list, err := rdb.XRange(ctx, stream, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		left := map[directory.TenantID]int{}
		for _, m := range list {
			e, _ := FromEntry(m.Values)
			left[e.Tenant]++
		}
		if left[gone] != 0 || left[stays] != 2*erasePage+1 || left[0] != 1 {
			t.Errorf("left: got %v, want all but tenant %d's", left, gone)
		}
	}
}

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// TestLargeEventsTakeLittleOfRedis, which a cell's tenants share, and come whole and in order.
func TestLargeEventsTakeLittleOfRedis(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	text := func(seq int64) string {
		if seq%3 == 0 {
			return "small"
		}
		return strings.Repeat(fmt.Sprint(seq%10), 100_000)
	}
	const events = 60
	for seq := range int64(events) {
		if err := st.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
			return outbox.Append(ctx, tx, outbox.New{Type: created, Subject: "task/1", Data: text(seq + 1)})
		}); err != nil {
			t.Fatal(err)
		}
	}
	start(t, st.relay())
	eventually(t, "all is published", func() bool { return st.published(t) == events })
	stream := outbox.Stream(outbox.Partition(1))
	if n := st.redis.MemoryUsage(t.Context(), stream, 0).Val(); n == 0 || n > 500_000 {
		t.Errorf("the stream takes %d bytes", n)
	}
	start(t, st.worker(t, quick(), Consumer{Name: "log", Handle: func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
		var got string
		if err := json.Unmarshal(e.Data, &got); err != nil || got != text(e.Seq) {
			t.Errorf("event %d has %d bytes, %v", e.Seq, len(e.Data), err)
		}
		return record("log")(ctx, tx, e)
	}}))
	st.waitEffects(t, 1, events, "log")
	eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
}

package worker

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// phantom brings an event to the stream that the database does not have: it was committed,
// published, and lost when a standby without it was promoted.
func (st *stack) phantom(t *testing.T, seq int64) {
	t.Helper()
	e := outbox.Event{
		ID: uuid.NewString(), Tenant: 1, Seq: seq, Type: created, Subject: "phantom", Time: time.Now().UTC(),
		Data: json.RawMessage("0"), Epoch: 1, Cell: "c1",
	}
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	args := &redis.XAddArgs{Stream: outbox.Stream(outbox.Partition(1)), Values: map[string]any{"event": string(body)}}
	if err := st.redis.XAdd(t.Context(), args).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestALostEventIsNotDone: an event of a commit that a promoted database does not have has no
// effect, not under a number that was given again either, and is not asked for again and again.
func TestALostEventIsNotDone(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	relay := start(t, st.relay())
	st.write(t, 1, 3, created)
	eventually(t, "all is published", func() bool { return st.published(t) == 3 })
	relay()
	st.phantom(t, 4)
	st.phantom(t, 5)
	st.phantom(t, 7)
	st.write(t, 1, 1, created) // the next number 4

	var mu sync.Mutex
	var subjects []string
	logs := logger("log")
	logs.Handle = func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
		mu.Lock()
		subjects = append(subjects, e.Subject)
		mu.Unlock()
		return record("log")(ctx, tx, e)
	}
	o := quick()
	o.Sweep, o.Grace = time.Hour, time.Hour
	start(t, st.worker(t, o, logs))
	st.waitEffects(t, 1, 4, "log")
	eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
	start(t, st.relay())
	st.write(t, 1, 4, created) // and on, over the numbers that were heard of
	st.waitEffects(t, 1, 8, "log")
	mu.Lock()
	defer mu.Unlock()
	for _, s := range subjects {
		if s == "phantom" {
			t.Errorf("an event that is lost had its effect: %v", subjects)
		}
	}
}

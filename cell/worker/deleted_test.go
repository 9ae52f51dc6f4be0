package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
)

// TestALateEventOfADeletedTenantGoes: a relay had read it before the tenant was deleted, and
// sends it when the purge has been through the stream.
func TestALateEventOfADeletedTenantGoes(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	opt, err := redis.ParseURL(st.bus)
	if err != nil {
		t.Fatal(err)
	}
	opt.ReadTimeout = time.Minute // its command is not to be taken back
	bus := redis.NewClient(opt)
	t.Cleanup(func() { bus.Close() })
	start(t, outbox.NewRelay(st.store, bus, outbox.RelayOptions{}))
	stream := outbox.Stream(outbox.Partition(1))
	length := func() int64 {
		n, err := st.redis.XLen(t.Context(), stream).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := st.redis.Do(t.Context(), "CLIENT", "PAUSE", 60_000, "WRITE").Err(); err != nil {
		t.Fatal(err)
	}
	st.write(t, 1, 1, created)
	eventually(t, "the relay sends", func() bool {
		list, err := st.redis.ClientList(t.Context()).Result()
		return err == nil && strings.Contains(list, "cmd=xadd")
	})
	if f, err := fence.Delete(t.Context(), st.store.DB(), 1, 2, 10*time.Second); err != nil || f.State != fence.Deleted {
		t.Fatalf("delete: got %+v, %v", f, err)
	}
	if err := outbox.NewEraser(st.redis).Erase(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	if err := st.redis.Do(t.Context(), "CLIENT", "UNPAUSE").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event comes", func() bool { return length() == 1 })
	start(t, st.worker(t, quick(), logger("log")))
	eventually(t, "it goes", func() bool { return length() == 0 })
	eventually(t, "it is acknowledged", func() bool { return st.pending(t, "log") == 0 })
}

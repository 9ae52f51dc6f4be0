package worker

import (
	"testing"
	"time"

	"github.com/cellway/cellway/cell/outbox"
)

// Entries go from the streams when their time is over, whoever's they are and however few:
// of a tenant that has moved away nobody else removes them. What was not done yet is done.
func TestOldEntriesLeaveTheStreams(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	relay := start(t, st.relay())
	st.write(t, 1, 3, created)
	eventually(t, "all is published", func() bool { return st.published(t) == 3 })
	relay()
	left := func() int64 {
		t.Helper()
		n, err := st.redis.XLen(t.Context(), outbox.Stream(outbox.Partition(1))).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	o := quick()
	o.Keep = time.Hour
	if err := st.worker(t, o, logger("log")).trimOnce(t.Context()); err != nil || left() != 3 {
		t.Errorf("%d are left of 3 young entries, %v", left(), err)
	}
	o.Keep = -time.Hour // in an hour they were old
	start(t, st.worker(t, o, logger("log")))
	eventually(t, "the old entries are gone", func() bool { return left() == 0 })
	st.waitEffects(t, 1, 3, "log")
}

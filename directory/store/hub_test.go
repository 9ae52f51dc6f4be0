package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/testkit"
)

// TestAHubWakesWhoWaitsForTheTopic, and everybody where it does not know what about.
func TestAHubWakesWhoWaitsForTheTopic(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string][3]bool{
		aboutTable: {true, false, false}, aboutCredentials: {false, true, false}, aboutMembers: {false, false, true},
		"": {true, true, true}, "of a later release": {true, true, true},
	} {
		h := newHub()
		var got [3]bool
		waiting := []<-chan struct{}{h.newer(aboutTable), h.newer(aboutCredentials), h.newer(aboutMembers)}
		h.wake(topic)
		for i, c := range waiting {
			select {
			case <-c:
				got[i] = true
			default:
			}
		}
		if got != want {
			t.Errorf("%q wakes %v of table, credentials and members, want %v", topic, got, want)
		}
	}
}

// TestABusyRecordIsSettled: what a connection begins with is tried again though there is
// always something to hear, and keeps nobody from hearing it.
func TestABusyRecordIsSettled(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	if err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	pool, err := pg.Open(t.Context(), url, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	h := newHub()
	begun := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		tries := 0
		h.run(ctx, pool, func(ctx context.Context) error {
			newer := h.newer(aboutTable)
			if _, err := pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, aboutTable); err != nil {
				return err
			}
			select {
			case <-newer:
			case <-ctx.Done():
				return ctx.Err()
			}
			if tries++; tries == 1 {
				return errors.New("the first try finds the primary before")
			}
			close(begun)
			return nil
		})
	})
	for {
		select {
		case <-begun:
			return
		case <-ctx.Done():
			t.Fatal("not within half a minute")
		case <-h.newer(aboutTable): // as soon as one commit was heard, there is another
			if _, err := pool.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, aboutTable); err != nil {
				t.Fatal(err)
			}
		}
	}
}

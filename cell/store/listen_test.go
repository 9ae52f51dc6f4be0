package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// What is listened for on many channels costs one session; who joins late, or was
// connected anew, is told that something may have been missed.
func TestListenersShareASession(t *testing.T) {
	t.Parallel()
	s, owner := open(t)
	heard := make(chan string, 100)
	listen := func(channel string) (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Listen(ctx, channel, func(payload string) { heard <- channel + ":" + payload }); err != nil {
				t.Error(err)
			}
		})
		return func() { cancel(); wg.Wait() }
	}
	expect := func(want ...string) {
		t.Helper()
		got := map[string]bool{}
		for range want {
			got[<-heard] = true
		}
		for _, w := range want {
			if !got[w] {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	notify := func(channel, payload string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), `SELECT pg_notify($1, $2)`, channel, payload); err != nil {
			t.Fatal(err)
		}
	}
	sessions := func() (n int) {
		t.Helper()
		if err := owner.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	leaveA := listen("a")
	expect("a:")
	leaveB := listen("b")
	expect("b:")
	leaveAgain := listen("a")
	expect("a:")
	notify("b", "1")
	expect("b:1")
	notify("a", "2")
	expect("a:2", "a:2")
	if n := sessions(); n != 1 {
		t.Errorf("%d sessions listen, want 1", n)
	}

	leaveAgain()
	if _, err := owner.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN%'`); err != nil {
		t.Fatal(err)
	}
	expect("a:", "b:")
	notify("a", "3")
	expect("a:3")

	leaveB()
	notify("b", "nobody")
	notify("a", "4")
	expect("a:4")
	leaveA()
	for sessions() > 0 { // it ends with the last who listens
		store.Wait(t.Context(), 1)
	}
	leaveA = listen("a")
	expect("a:")
	leaveA()
	if len(heard) > 0 {
		t.Errorf("heard besides: %s", <-heard)
	}
}

// Any number may come and go at the same time.
func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				told := make(chan struct{})
				var once sync.Once
				wg.Go(func() {
					_ = s.Listen(ctx, fmt.Sprint("channel ", i%3), func(string) { once.Do(func() { close(told) }) })
				})
				<-told
				cancel()
			}
		})
	}
	wg.Wait()
}

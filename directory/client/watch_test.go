package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// add makes one new version.
func add(t *testing.T, d directory.Directory, id string) {
	t.Helper()
	c := directory.Cell{ID: directory.CellID(id), Address: "http://" + id, Capacity: 10, Incarnation: "db"}
	if _, err := d.AddCell(t.Context(), c); err != nil {
		t.Fatalf("add cell %s: %v", id, err)
	}
}

func at(v directory.Version) func() directory.Version { return func() directory.Version { return v } }

// watching runs Watch over feed and returns the updates it applies; it stops
// with the test.
func watching(t *testing.T, feed directory.Feed, o client.WatchOptions) <-chan directory.Update {
	t.Helper()
	updates := make(chan directory.Update, 100)
	apply := o.Apply
	o.Apply = func(ctx context.Context, u directory.Update) error {
		if apply != nil {
			if err := apply(ctx, u); err != nil {
				return err
			}
		}
		updates <- u
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Watch(ctx, feed, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: got %v, want nil when its context ends", err)
		}
	})
	return updates
}

func next(t *testing.T, updates <-chan directory.Update, since, version directory.Version) {
	t.Helper()
	select {
	case u := <-updates:
		if u.Since != since || u.Version != version {
			t.Errorf("update: got %d to %d, want %d to %d", u.Since, u.Version, since, version)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no update from %d to %d", since, version)
	}
}

func TestWatchBeginsWithASnapshotAndFollows(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	add(t, m, "c1")
	updates := watching(t, m, client.WatchOptions{Router: "r1"})
	next(t, updates, 0, 1)
	add(t, m, "c2")
	next(t, updates, 1, 2)
}

func TestWatchContinuesFromTheVersionGiven(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	for _, id := range []string{"c1", "c2", "c3"} {
		add(t, m, id)
	}
	updates := watching(t, m, client.WatchOptions{At: at(2)})
	next(t, updates, 2, 3)
}

func TestWatchAcknowledgesWhatWasApplied(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	add(t, m, "c1")
	alive := make(chan directory.Version, 100)
	updates := watching(t, m, client.WatchOptions{
		Router: "r1", Wait: time.Millisecond, Alive: func(u directory.Update) error { alive <- u.Version; return nil },
	})
	next(t, updates, 0, 1)
	for range 2 { // the first is the snapshot's, the second the first acknowledgement's
		if v := <-alive; v != 1 {
			t.Errorf("alive: got version %d, want 1", v)
		}
	}
	w, err := m.Watermark(t.Context())
	if err != nil || len(w.Routers) != 1 || w.Routers[0].Acked != 1 {
		t.Errorf("watermark: got %+v, %v, want r1 at 1", w, err)
	}
}

// TestWatchAsksFromWhereTheTableIs: others bring it further, and the directory that the
// watch asks may have lost that.
func TestWatchAsksFromWhereTheTableIs(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	add(t, m, "c1")
	if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); err != nil {
		t.Fatal(err)
	}
	var at atomic.Int64
	alive := make(chan struct{}, 100)
	updates := watching(t, m, client.WatchOptions{
		Router: "r1", Wait: time.Millisecond,
		At:    func() directory.Version { return directory.Version(at.Load()) },
		Apply: func(_ context.Context, u directory.Update) error { at.Store(int64(u.Version)); return nil },
		Alive: func(directory.Update) error { alive <- struct{}{}; return nil },
	})
	next(t, updates, 0, 2)
	<-alive
	at.Store(5)
	next(t, updates, 0, 5+directory.MarginVersions)
}

func TestWatchStartsAgainWhenTooOld(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	m.Keep = 1
	for i := range 5 {
		add(t, m, fmt.Sprint("c", i))
	}
	updates := watching(t, m, client.WatchOptions{At: at(1)})
	next(t, updates, 0, 5)
}

// A feed that fails as often as it is told to.
type flaky struct {
	directory.Feed
	failures atomic.Int32
}

var errDown = errors.New("down")

func (f *flaky) fail() bool { return f.failures.Add(-1) >= 0 }

func (f *flaky) Snapshot(ctx context.Context) (directory.Update, error) {
	if f.fail() {
		return directory.Update{}, errDown
	}
	return f.Feed.Snapshot(ctx)
}

func (f *flaky) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	if f.fail() {
		return directory.Update{}, errDown
	}
	return f.Feed.Changes(ctx, r, since, wait)
}

func TestWatchOutlivesADeadDirectory(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	add(t, m, "c1")
	feed := &flaky{Feed: m}
	feed.failures.Store(3)
	failed := make(chan error, 100)
	updates := watching(t, feed, client.WatchOptions{Failed: func(err error, pause time.Duration) {
		if pause <= 0 || pause > 6*time.Second {
			t.Errorf("pause: got %v", pause)
		}
		failed <- err
	}})
	next(t, updates, 0, 1)
	for range 3 {
		if err := <-failed; !errors.Is(err, errDown) {
			t.Errorf("failure: got %v, want %v", err, errDown)
		}
	}
}

func TestWatchTakesASnapshotAfterARefusedUpdate(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory()
	add(t, m, "c1")
	var refused atomic.Bool
	updates := watching(t, m, client.WatchOptions{Apply: func(_ context.Context, u directory.Update) error {
		if u.Since == 1 && refused.CompareAndSwap(false, true) {
			return errors.New("disk full")
		}
		return nil
	}})
	next(t, updates, 0, 1)
	add(t, m, "c2")
	next(t, updates, 0, 2)
}

func TestWatchNeverGoesBackwards(t *testing.T) {
	t.Parallel()
	m := directorytest.NewMemory() // restored from a backup: at version 1, the table is at 3
	add(t, m, "c1")
	failed := make(chan error, 100)
	lost := directory.Head{1} // of the history that the backup does not have
	updates := watching(t, m, client.WatchOptions{
		At: at(3), Failed: func(err error, _ time.Duration) { failed <- err },
		Apply: func(_ context.Context, u directory.Update) error { return u.Continues(3, lost) },
	})
	<-failed // gone
	<-failed // behind
	select {
	case u := <-updates:
		t.Errorf("got update to %d for a table at 3", u.Version)
	default:
	}
	for _, id := range []string{"c2", "c3", "c4"} {
		add(t, m, id)
	}
	u := <-updates
	if u.Since != 0 || u.Version < 3 || !slices.ContainsFunc(u.Cells, func(c directory.CellRoute) bool { return c.ID == "c3" }) {
		t.Errorf("first update: got %+v, want a snapshot of version 3 or later", u)
	}
}

func TestWatchNeedsApply(t *testing.T) {
	t.Parallel()
	if err := client.Watch(t.Context(), directorytest.NewMemory(), client.WatchOptions{}); err == nil {
		t.Error("got nil, want an error")
	}
}

// A flawed feed spoils so many answers on the way, and counts snapshots.
type flawed struct {
	directory.Feed
	spoil, snapshots atomic.Int32
}

func (f *flawed) Snapshot(ctx context.Context) (directory.Update, error) {
	f.snapshots.Add(1)
	return f.Feed.Snapshot(ctx)
}

func (f *flawed) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	u, err := f.Feed.Changes(ctx, r, since, wait)
	if err == nil && len(u.Cells) > 0 && f.spoil.Add(-1) >= 0 {
		u.Cells[0].Address += "9"
	}
	return u, err
}

// TestWatchAsksAgainBeforeItStartsAgain: what was spoilt once is asked for once
// more; twice asks for a snapshot; and a feed that is always wrong is not asked for
// snapshots all the time.
func TestWatchAsksAgainBeforeItStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		add(t, m, "c0")
		feed := &flawed{Feed: m}
		head := directory.Head{}
		at := directory.Version(0)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- client.Watch(ctx, feed, client.WatchOptions{Apply: func(_ context.Context, u directory.Update) error {
				if err := u.Continues(at, head); err != nil {
					return err
				}
				at, head = u.Version, u.Head
				return nil
			}})
		}()
		for i, tt := range []struct {
			spoilt, snapshots int32
			within            time.Duration
		}{{0, 1, time.Second}, {1, 1, time.Second}, {2, 2, 2 * time.Second}, {1 << 30, 60, 5 * time.Minute}} {
			feed.spoil.Store(tt.spoilt)
			add(t, m, fmt.Sprint("c", i+1))
			for n := 0; n < 60; n++ {
				if tt.spoilt > 2 {
					add(t, m, fmt.Sprint("d", n))
				}
				time.Sleep(tt.within / 60)
			}
			synctest.Wait()
			if got := feed.snapshots.Load(); tt.spoilt <= 2 && (got != tt.snapshots || at != newest(t, m)) || got > tt.snapshots {
				t.Errorf("spoilt %d: at version %d, %d snapshots, want %d at %d", tt.spoilt, at, got, tt.snapshots, newest(t, m))
			}
		}
		feed.spoil.Store(0)
		time.Sleep(time.Second)
		synctest.Wait()
		if at != newest(t, m) {
			t.Errorf("a second after healing: at version %d, want %d", at, newest(t, m))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWatchGoesOnWhereTheTableRefuses: changes that the table does not want are asked
// for from where it is, so that the directory hears of the router; and where only a
// snapshot would do, one is taken now and then.
func TestWatchGoesOnWhereTheTableRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ keep, polls, snapshots int32 }{
		"changes": {0, 15, 0}, "a snapshot": {1, 10, 7},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := directorytest.NewMemory()
			m.Keep = int(tt.keep)
			for i := range 5 {
				add(t, m, fmt.Sprint("c", i))
			}
			feed := &flawed{Feed: m}
			var polls atomic.Int32
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- client.Watch(ctx, feed, client.WatchOptions{
					At: at(1), Router: "r1",
					Poll: func(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
						polls.Add(1)
						if since != 1 {
							t.Errorf("%s: polled at version %d, want 1", name, since)
						}
						return m.Changes(ctx, r, since, wait)
					},
					Apply: func(context.Context, directory.Update) error { return problem.New(problem.Conflict, "too much") },
				})
			}()
			time.Sleep(time.Minute)
			synctest.Wait()
			if n, whole := polls.Load(), feed.snapshots.Load(); n < tt.polls || n > 70 || whole > tt.snapshots {
				t.Errorf("%s: %d polls and %d snapshots, want at least %d and at most %d", name, n, whole, tt.polls, tt.snapshots)
			}
			if w, err := m.Watermark(t.Context()); err != nil || w.Watermark != 1 || !w.Routers[0].Live {
				t.Errorf("%s: got %+v, %v, want a router that lives, at 1", name, w, err)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWatchAsksForNoSnapshotBecauseOfAPart: the table is where the update leads, and
// a part that cannot be served is not what a snapshot could mend.
func TestWatchAsksForNoSnapshotBecauseOfAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		add(t, m, "c1")
		add(t, m, "c2")
		feed := &flawed{Feed: m}
		ctx, stop := context.WithCancel(t.Context())
		var polled []directory.Version
		done := make(chan error, 1)
		go func() {
			done <- client.Watch(ctx, feed, client.WatchOptions{
				At: at(1),
				Poll: func(ctx context.Context, r string, since directory.Version, _ time.Duration) (directory.Update, error) {
					polled = append(polled, since)
					u, err := m.Changes(ctx, r, since, 0)
					u.Part = &directory.Part{Rollout: "ro_1"} // again and again: it is not there
					return u, err
				},
				Apply: func(context.Context, directory.Update) error { return directory.ErrPart },
			})
		}()
		time.Sleep(time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := len(polled); n < 10 || n > 40 || polled[0] != 1 || polled[1] != 2 || feed.snapshots.Load() > 0 {
			t.Errorf("%d snapshots, polled at %v", feed.snapshots.Load(), polled)
		}
	})
}

func newest(t *testing.T, m *directorytest.Memory) directory.Version {
	t.Helper()
	u, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u.Version
}

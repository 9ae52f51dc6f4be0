package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// told is a directory whose answers about a move are given one after the other.
type told struct {
	api
	moves []directory.Move
	err   error
}

func (d *told) Move(context.Context, directory.MoveID) (directory.Move, error) {
	if d.err != nil {
		return directory.Move{}, d.err
	}
	m := d.moves[0]
	d.moves = d.moves[1:]
	return m, nil
}

// at is a move as it is so many seconds after the beginning.
func at(id directory.MoveID, p directory.Phase, seconds int, bytes, keys, rounds int64) directory.Move {
	return directory.Move{
		ID: id, Phase: p, Attempt: 1, Attempts: 5, Changed: dawn.Add(time.Duration(seconds) * time.Second),
		Report: fmt.Appendf(nil, `{"size_bytes":50000000,"rows":10,"bytes":%d,"keys":%d,"rounds":%d,"last_round_ns":20000000}`, bytes, keys, rounds),
	}
}

var dawn = time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)

// quiet is an app that says nothing but to its buffer, at a time that is set.
func quiet() (*app, *bytes.Buffer, *time.Time) {
	var said bytes.Buffer
	now := dawn
	a := &app{out: &said, err: &said, getenv: func(string) string { return "" }, now: func() time.Time { return now }}
	a.flags.timeout = 30 * time.Second
	return a, &said, &now
}

func TestFollowerTellsSpeedLagAndWhatIsLeft(t *testing.T) {
	t.Parallel()
	a, said, now := quiet()
	retry := at("mv_2", directory.Planned, 9, 0, 0, 0)
	retry.Attempt, retry.NotBefore, retry.Report = 2, dawn.Add(12*time.Second), nil
	aborted := at("mv_1", directory.Aborted, 8, 50e6, 130, 2)
	aborted.Error, aborted.RetriedBy = "the pause exceeded its budget", "mv_2"
	d := &told{moves: []directory.Move{
		at("mv_1", directory.Armed, 1, 0, 0, 0), at("mv_1", directory.Copied, 6, 50e6, 0, 0),
		at("mv_1", directory.Copied, 6, 50e6, 100, 1), at("mv_1", directory.Copied, 6, 50e6, 130, 2), aborted, retry,
	}}
	f := follower{app: a, api: d, move: at("mv_1", directory.Reserved, 0, 0, 0, 0), said: dawn}
	for _, want := range []string{
		"armed      10 rows, 0.0 kB of 50.0 MB\n",
		"copied     10 rows, 50.0 MB  10.0 MB/s",
		"round 1 took 20ms, 100 keys behind",
		"round 2 took 20ms, 30 keys behind",
		"aborted    10 rows, 50.0 MB  10.0 MB/s  round 2 took 20ms, 30 keys behind  the pause exceeded its budget",
		"planned    0 rows, 0.0 kB  attempt 2 of 5 begins in 3s",
	} {
		said.Reset()
		*now = now.Add(2 * time.Second)
		if d.moves[0].ID == "mv_2" {
			*now = dawn.Add(9 * time.Second)
		}
		if err := f.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said.String(), want) {
			t.Errorf("got %q, want %q", said.String(), want)
		}
		if settled(f.move) {
			t.Errorf("%s of %s has settled, want more to follow", f.move.Phase, f.move.ID)
		}
	}
}

// TestFollowerTellsOfTheCopyUnderWay: rows and bytes as they come; how fast, and how long it may still take, from two
// readings of one round, or one and its beginning; and nothing of what nobody knows.
func TestFollowerTellsOfTheCopyUnderWay(t *testing.T) {
	t.Parallel()
	// copies is a move that copies 50 MB, and what has come since began.
	copies := func(began time.Time, seconds, rows, bytes int64, more string) directory.Move {
		m := at("mv_1", directory.Armed, 1, 0, 0, 0)
		come, err := json.Marshal(coming{Rows: rows, Bytes: bytes, Began: began, For: time.Duration(seconds) * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		m.Report = fmt.Appendf(nil, `{"size_bytes":50000000,"coming":%s%s}`, come, more)
		return m
	}
	undo := copies(dawn, 60, 1, 20e6, "")
	undo.Undoes = "mv_0"
	whole := copies(dawn, 65, 1, 25e6, `,"whole":true`)
	whole.Undoes = "mv_0"
	a, said, now := quiet()
	d := &told{}
	f := follower{app: a, api: d, move: at("mv_1", directory.Armed, 1, 0, 0, 0), said: dawn}
	for i, tt := range []struct {
		move directory.Move
		wait int // seconds since the reading before
		want string
	}{
		{at("mv_1", directory.Armed, 1, 0, 0, 0), 5, "armed      10 rows, 0.0 kB of 50.0 MB"},
		{copies(dawn, 5, 1000, 10e6, ""), 5, "armed      1000 rows, 10.0 MB of 50.0 MB  2.0 MB/s  about 20s to copy the rest"},
		{copies(dawn, 10, 3000, 30e6, ""), 5, "armed      3000 rows, 30.0 MB of 50.0 MB  4.0 MB/s  about 5s to copy the rest"},
		{copies(dawn, 10, 3000, 30e6, ""), 15, "armed      3000 rows, 30.0 MB of 50.0 MB  4.0 MB/s  about 5s to copy the rest"},
		{copies(dawn, 10, 3000, 30e6, ""), 5, "armed      3000 rows, 30.0 MB of 50.0 MB"}, // it may stand
		{copies(dawn, 30, 4000, 40e6, ""), 5, "armed      4000 rows, 40.0 MB of 50.0 MB  500.0 kB/s  about 20s to copy the rest"},
		{copies(dawn.Add(time.Minute), 35, 100, 35e6, ""), 5, "armed      100 rows, 35.0 MB of 50.0 MB  1.0 MB/s  about 15s to copy the rest"}, // another round
		{copies(dawn.Add(time.Minute), 40, 200, 45e6, `,"size_at_least":true`), 5, "armed      200 rows, 45.0 MB of at least 50.0 MB  2.0 MB/s"},
		{copies(dawn.Add(time.Minute), 45, 300, 51e6, ""), 5, "armed      300 rows, 51.0 MB  1.2 MB/s"},
		{at("mv_1", directory.Copied, 11, 60e6, 0, 0), 5, "copied     10 rows, 60.0 MB  6.0 MB/s"},
		{undo, 5, "armed      1 rows, 20.0 MB  333.3 kB/s"},
		{whole, 5, "armed      1 rows, 25.0 MB of 50.0 MB  1.0 MB/s  about 25s to copy the rest"},
	} {
		d.moves = []directory.Move{tt.move}
		*now = now.Add(time.Duration(tt.wait) * time.Second)
		said.Reset()
		if err := f.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := said.String(); got != "note: "+tt.want+"\n" {
			t.Errorf("reading %d: got %q, want %q", i, got, tt.want)
		}
	}
}

// What is followed goes on without the directory's answers, so an outage is borne
// for as long as one answer may take; anything else ends the following.
func TestFollowerBearsAnOutage(t *testing.T) {
	t.Parallel()
	a, said, now := quiet()
	d := &told{err: problem.New(problem.Unavailable, "the directory does not answer")}
	f := follower{app: a, api: d, move: at("mv_1", directory.Armed, 0, 0, 0, 0), said: dawn}
	for range 3 {
		if err := f.look(t.Context()); err != nil {
			t.Fatalf("after %s: got %v, want patience", now.Sub(dawn), err)
		}
		*now = now.Add(15 * time.Second)
	}
	if n := strings.Count(said.String(), "does not answer"); n != 1 {
		t.Errorf("said %d times that the directory does not answer, want once", n)
	}
	if err := f.look(t.Context()); !errors.Is(err, problem.Unavailable) {
		t.Errorf("after %s: got %v, want the outage", now.Sub(dawn), err)
	}
	d.err = problem.New(problem.Forbidden, "no")
	if err := f.look(t.Context()); !errors.Is(err, problem.Forbidden) {
		t.Errorf("got %v, want the refusal", err)
	}
}

func TestFollowingEndsAndTheMoveGoesOn(t *testing.T) {
	t.Parallel()
	a, said, _ := quiet()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.follow(ctx, &told{}, at("mv_1", directory.Armed, 0, 0, 0, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	if want := "note: the move goes on: cellctl move watch mv_1\n"; !strings.HasSuffix(said.String(), want) {
		t.Errorf("got %q, want %q", said.String(), want)
	}
}

// TestAFollowedMoveEndsAsItsFollowerWanted: the exit code is that of the command, whoever has
// made the move end.
func TestAFollowedMoveEndsAsItsFollowerWanted(t *testing.T) {
	t.Parallel()
	differs := directory.Move{Phase: directory.Watching, StopAt: directory.Watching, Report: []byte(`{"comparison":{"differ":["app.note"]}}`)}
	taken := directory.Move{Phase: directory.Aborted, Wish: directory.Cancel, Error: "cancelled"}
	broken := directory.Move{Phase: directory.Aborted, Error: "the schemas differ"}
	there, back, purged := directory.Move{Phase: directory.Watching}, directory.Move{Phase: directory.Undone, UndoneBy: "mv_2"}, directory.Move{Phase: directory.Completed}
	for name, tt := range map[string]struct {
		verdict func(directory.Move) error
		wanted  []directory.Move
		not     []directory.Move
	}{
		"move, undo": {arrived, []directory.Move{there, differs, purged}, []directory.Move{taken, broken, back}},
		"switch":     {verdict(directory.Switch), []directory.Move{there, purged}, []directory.Move{taken, broken, back}},
		"cancel":     {verdict(directory.Cancel), []directory.Move{taken, broken}, []directory.Move{there, back}},
		"complete":   {verdict(directory.Complete), []directory.Move{purged}, []directory.Move{there, differs, back}},
		"watch":      {watched, []directory.Move{there, taken, back, purged}, []directory.Move{broken}},
	} {
		for _, m := range tt.wanted {
			if err := tt.verdict(m); err != nil {
				t.Errorf("%s of one that is %s: got %v", name, m.Phase, err)
			}
		}
		for _, m := range tt.not {
			if err := tt.verdict(m); problem.KindOf(err) != problem.Conflict {
				t.Errorf("%s of one that is %s: got %v, want a conflict", name, m.Phase, err)
			}
		}
	}
	if err := completed(differs); !strings.Contains(err.Error(), "differ in app.note") {
		t.Errorf("not completed: got %v, want why", err)
	}
}

func TestMoreMovesThanAPage(t *testing.T) {
	t.Parallel()
	d := directorytest.NewMemory()
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := d.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 5000, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	const n = pageSize + 1
	var all []directory.TenantID // before the moves, all of which Memory looks at for each tenant
	for i := range n {
		one, err := d.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one.ID)
	}
	for _, id := range all {
		if _, err := d.CreateMove(t.Context(), directory.NewMove{Tenant: id, Target: "c2"}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := readFleet(t.Context(), memory{Memory: d}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.open) != n || len(f.tenants) != n || len(f.recent) != n || len(f.openByTenant()) != n {
		t.Errorf("got %d moves, %d tenants, %d recent moves, want %d, %d, %d", len(f.open), len(f.tenants), len(f.recent), n, n, n)
	}
}

// memory is a directory that issues no tokens.
type memory struct {
	*directorytest.Memory
	directory.Rollouts // nil: nobody asks
}

func (memory) IssueToken(context.Context, directory.TenantID, string, time.Duration) (client.Token, error) {
	return client.Token{}, problem.New(problem.Forbidden, "there are no tokens here")
}

func (memory) Version(context.Context) (client.Version, error) { return client.Version{}, nil }

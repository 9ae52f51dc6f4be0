package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// hung is a directory that takes each question and answers none. It tells of each.
type hung struct {
	api
	asked chan struct{}
}

func (d hung) hang(ctx context.Context) error {
	d.asked <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (d hung) Move(ctx context.Context, _ directory.MoveID) (directory.Move, error) {
	return directory.Move{}, d.hang(ctx)
}

func (d hung) Rollout(ctx context.Context, _ directory.RolloutID) (directory.Rollout, error) {
	return directory.Rollout{}, d.hang(ctx)
}

func (d hung) CreateMove(ctx context.Context, _ directory.NewMove) (directory.Move, error) {
	return directory.Move{}, d.hang(ctx)
}

// TestAnInterruptWhileTheDirectoryHangs, which is when people press Ctrl-C, says that
// what was asked for goes on all the same.
func TestAnInterruptWhileTheDirectoryHangs(t *testing.T) {
	t.Parallel()
	watching := at("mv_1", directory.Watching, 0, 0, 0, 0)
	watching.Wish = directory.Verify
	for want, ask := range map[string]func(context.Context, *app, api) error{
		"the move goes on: cellctl move watch mv_1": func(ctx context.Context, a *app, d api) error {
			return a.follow(ctx, d, at("mv_1", directory.Armed, 0, 0, 0, 0))
		},
		"the comparison goes on: cellctl move status mv_1": func(ctx context.Context, a *app, d api) error {
			_, err := a.awaitVerified(ctx, d, watching)
			return err
		},
		"the roll-out goes on by itself: cellctl rollout status ro_1 --wait": func(ctx context.Context, a *app, d api) error {
			_, err := a.awaitRollout(ctx, d, directory.Rollout{ID: "ro_1", State: directory.RolloutRunning})
			return err
		},
		"the move may be recorded all the same: cellctl move list": func(ctx context.Context, a *app, d api) error {
			return (&wanted{}).ask(ctx, a, d, directory.NewMove{Tenant: 1, Target: "c2"}, func(err error) error { return err })
		},
	} {
		a, said, _ := quiet()
		ctx, interrupt := context.WithCancel(t.Context())
		d := hung{asked: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- ask(ctx, a, d) }()
		<-d.asked
		interrupt()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want the context's end", want, err)
		}
		if !strings.Contains(said.String(), want) {
			t.Errorf("got %q, want %q", said.String(), want)
		}
	}
}

// TestWaitingForAComparisonBearsAnOutage like every other waiting.
func TestWaitingForAComparisonBearsAnOutage(t *testing.T) {
	t.Parallel()
	a, said, now := quiet()
	watching := at("mv_1", directory.Watching, 0, 0, 0, 0)
	watching.Wish = directory.Verify
	d := &away{answers: []error{nil, problem.New(problem.Unavailable, "no answer"), nil}, move: watching}
	if m, err := a.awaitVerified(t.Context(), d, watching); err != nil || m.Wish == directory.Verify {
		t.Errorf("got %+v, %v, want the move with its report", m, err)
	}
	watching.Source = "c1"
	d = &away{answers: []error{nil, nil, nil}, move: watching}
	d.look = func() { *now = now.Add(20 * time.Second) }
	if _, err := a.awaitVerified(t.Context(), d, watching); err != nil || !strings.Contains(said.String(), "cell c1 is not healthy (cellctl cell get c1)") {
		t.Errorf("got %v and %q, want to hear which cell is waited for", err, said.String())
	}
	d = &away{answers: []error{problem.New(problem.Unavailable, "no answer"), problem.New(problem.Unavailable, "no answer")}, move: watching}
	d.look = func() { *now = now.Add(20 * time.Second) }
	said.Reset()
	if _, err := a.awaitVerified(t.Context(), d, watching); !errors.Is(err, problem.Unavailable) || !strings.Contains(said.String(), "the comparison goes on") {
		t.Errorf("got %v and %q, want the outage, and that the comparison goes on", err, said.String())
	}
}

// away is a directory whose answers fail as they are told to; the last one says that the
// copies were compared.
type away struct {
	api
	answers []error
	move    directory.Move
	look    func()
}

// Cell is one that nobody has heard of.
func (d *away) Cell(_ context.Context, id directory.CellID) (directory.Cell, error) {
	return directory.Cell{ID: id}, nil
}

func (d *away) Move(context.Context, directory.MoveID) (directory.Move, error) {
	if d.look != nil {
		d.look()
	}
	err := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	} else if err == nil {
		d.move.Wish = directory.Proceed
	}
	return d.move, err
}

// TestNothingThatIsPrintedActs: a cell that was taken over may say anything, and its words
// reach an operator's terminal, which must obey none of them.
func TestNothingThatIsPrintedActs(t *testing.T) {
	t.Parallel()
	const evil = "it \x1b]0;title\x07is\u009b2J \x7f late\r"
	a, said, _ := quiet()
	m := at("mv_1", directory.Aborted, 0, 0, 0, 0)
	m.Error = evil
	m.Report = []byte(`{"failed":"a\u001b[2Jb"}`)
	if err := moveView.one(a, m); err != nil {
		t.Fatal(err)
	}
	(&follower{app: a, move: m}).say()
	a.note("move %s", evil)
	a.report(problem.New(problem.Conflict, "%s", evil), exitConflict)
	if i := strings.IndexFunc(said.String(), func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
		t.Errorf("got %q, which holds a control character at %d", said.String(), i)
	}
}

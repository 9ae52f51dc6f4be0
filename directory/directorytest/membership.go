package directorytest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Members is a membership under test, with a way to make its backend forget a
// cell behind the back of who keeps it alive.
type Members struct {
	directory.Membership
	Forget func(t *testing.T, id directory.CellID)
}

// RunMembership holds a Membership to the comments of the contract. open gives a
// fresh, empty one per subtest.
func RunMembership(t *testing.T, open func(t *testing.T) Members) {
	for name, test := range map[string]func(context.Context, *testing.T, Members){
		"JoinAndLeave": testJoinAndLeave,
		"Wait":         testMembersWait,
		"Invalid":      testJoinInvalid,
		"JoinAgain":    testJoinAgain,
		"Forgotten":    testForgotten,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			test(ctx, t, open(t))
		})
	}
}

// join announces a cell until the returned function is called.
func join(ctx context.Context, t *testing.T, m Members, c directory.Cell) (leave func()) {
	t.Helper()
	ctx, leave = context.WithCancel(ctx)
	t.Cleanup(leave)
	if err := m.Join(ctx, c); err != nil {
		t.Fatalf("join as %s: %v", c.ID, err)
	}
	return leave
}

// until follows the members until they are want.
func until(ctx context.Context, t *testing.T, m Members, index uint64, want ...directory.Member) uint64 {
	t.Helper()
	for {
		got, next, err := m.Members(ctx, index, time.Minute)
		if err != nil {
			t.Fatalf("members: %v, waiting for %v", err, want)
		}
		if next != directory.MembersIndex(got) {
			t.Errorf("index: got %d for %v", next, got)
		}
		if slices.Equal(got, want) {
			return next
		}
		index = next
	}
}

func member(c directory.Cell) directory.Member {
	return directory.Member{ID: c.ID, Address: c.Address, Incarnation: c.Incarnation}
}

func testJoinAndLeave(ctx context.Context, t *testing.T, m Members) {
	c1, c2 := cell("c1"), cell("c2")
	got, none, err := m.Members(ctx, 0, time.Minute)
	if err != nil || len(got) != 0 || none == 0 {
		t.Fatalf("members of nothing: got %v at %d, %v", got, none, err)
	}
	leave2 := join(ctx, t, m, c2)
	one := until(ctx, t, m, none, member(c2))
	leave1 := join(ctx, t, m, c1)
	both := until(ctx, t, m, one, member(c1), member(c2))
	leave2()
	left := until(ctx, t, m, both, member(c1))
	leave1()
	if again := until(ctx, t, m, left); again != none {
		t.Errorf("index of the empty set: got %d, then %d", none, again)
	}
}

func testMembersWait(ctx context.Context, t *testing.T, m Members) {
	join(ctx, t, m, cell("c1"))
	index := until(ctx, t, m, 0, member(cell("c1")))
	got, same, err := m.Members(ctx, index, 50*time.Millisecond)
	if err != nil || same != index || len(got) != 1 {
		t.Errorf("when the wait is over: got %v at %d, %v, want the same at %d", got, same, err, index)
	}
	over, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() {
		_, _, err := m.Members(over, index, time.Minute)
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("when its context ends: got %v, want canceled", err)
	}
}

func testJoinInvalid(ctx context.Context, t *testing.T, m Members) {
	wantKind(t, "join without an address", m.Join(ctx, directory.Cell{ID: "c1", Capacity: 1}), problem.Invalid)
}

func testJoinAgain(ctx context.Context, t *testing.T, m Members) {
	first := cell("c1")
	join(ctx, t, m, first)
	index := until(ctx, t, m, 0, member(first))
	moved := first
	moved.Address = "http://elsewhere.test:81"
	// The first one is still there, as after a restart that it has not noticed.
	join(ctx, t, m, moved)
	until(ctx, t, m, index, member(moved))
}

func testForgotten(ctx context.Context, t *testing.T, m Members) {
	join(ctx, t, m, cell("c1"))
	index := until(ctx, t, m, 0, member(cell("c1")))
	m.Forget(t, "c1")
	gone, index, err := m.Members(ctx, index, time.Minute)
	if err != nil || len(gone) != 0 {
		t.Fatalf("after the backend forgot: got %v, %v, want nobody", gone, err)
	}
	until(ctx, t, m, index, member(cell("c1")))
}

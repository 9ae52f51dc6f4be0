package pool

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/infra/problem"
)

// TestAQuestionLeavesConnectionsAlone: the cell is asked at an address that it may have left,
// and what requests use stays.
func TestAQuestionLeavesConnectionsAlone(t *testing.T) {
	t.Parallel()
	u := NewUpstreams("c1", Limits{})
	defer u.Close()
	one, err := u.At("http://127.0.0.1:2")
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Ask(t.Context(), "http://127.0.0.1:1"); err == nil {
		t.Error("nobody listens there, and it answers")
	}
	if again, err := u.At("http://127.0.0.1:2"); again != one || err != nil {
		t.Errorf("other connections than before: %v", err)
	}
	if other, err := u.At("http://127.0.0.1:3"); other == one || err != nil {
		t.Errorf("another address has the same connections: %v", err)
	}
	for address, want := range map[string]error{"ftp://127.0.0.1": problem.CellUnavailable, "http:": problem.CellUnavailable, "https://127.0.0.1:1": ErrNoIdentity} {
		if _, err := u.At(address); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", address, err, want)
		}
	}
}

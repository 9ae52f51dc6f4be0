package loadtest

import (
	"sync"
	"testing"
	"time"
)

func TestRecorderCountsByCell(t *testing.T) {
	t.Parallel()
	var r Recorder
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			r.Add(Attempt{Cell: "c1", Took: 2 * time.Millisecond})
			r.Add(Attempt{Cell: "c2", Took: time.Second, Fault: "503 cell-unavailable"})
		})
	}
	wg.Wait()
	r.Add(Attempt{Cell: "c2", Took: 4 * time.Millisecond})

	got := r.Cells()
	want := []CellReport{
		{Cell: "c1", Requests: 50, P50: Millis(2 * time.Millisecond), P99: Millis(2 * time.Millisecond)},
		{Cell: "c2", Requests: 51, Errors: 50, P50: Millis(4 * time.Millisecond), P99: Millis(4 * time.Millisecond), Fault: "503 cell-unavailable"},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if n := len(r.Faults("c2")); n != 50 {
		t.Errorf("faults of c2: got %d, want 50", n)
	}
	if n := len(r.Faults("c1")); n != 0 {
		t.Errorf("faults of c1: got %d, want 0", n)
	}
}

package loadtest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// An Attempt is how one request ended.
type Attempt struct {
	Cell   directory.CellID // the owner of the tenant that asked, when it signed up
	Tenant directory.TenantID
	At     time.Time // when it ended
	Took   time.Duration
	Since  time.Duration // from the first attempt of the same request to the end of this one
	Fault  string        // "" where the answer was the one that was due
}

// maxFaults bounds how many faults are kept whole; all are counted.
const maxFaults = 10000

// A Recorder keeps attempts, by cell. It is for concurrent use; the zero value
// is ready.
type Recorder struct {
	mu     sync.Mutex
	took   map[directory.CellID][]time.Duration
	faults []Attempt
	count  map[directory.CellID]int
	watch  []*Watch
	worst  time.Duration
}

// A Watch sums up the attempts of some tenants while it is open.
type Watch struct {
	Requests int    `json:"requests"`
	Failed   int    `json:"failed_requests"`
	Longest  Millis `json:"longest_request_ms"` // of those that were answered
	tenants  map[directory.TenantID]bool
}

// Watch opens a Watch over tenants; the function returned closes it, after which
// it may be read.
func (r *Recorder) Watch(tenants ...directory.TenantID) (w *Watch, done func()) {
	w = &Watch{tenants: map[directory.TenantID]bool{}}
	for _, t := range tenants {
		w.tenants[t] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch = append(r.watch, w)
	return w, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watch = slices.DeleteFunc(r.watch, func(o *Watch) bool { return o == w })
	}
}

// Requests is how many were made since w began.
func (r *Recorder) Requests(w *Watch) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return w.Requests
}

// add counts one attempt, if it is of a tenant that is watched.
func (w *Watch) add(a Attempt) {
	if !w.tenants[a.Tenant] {
		return
	}
	w.Requests++
	if a.Fault != "" {
		w.Failed++
		return
	}
	w.Longest = max(w.Longest, Millis(a.Took))
}

// Add keeps one attempt.
func (r *Recorder) Add(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.took == nil {
		r.took, r.count = map[directory.CellID][]time.Duration{}, map[directory.CellID]int{}
	}
	for _, w := range r.watch {
		w.add(a)
	}
	if a.Fault == "" {
		r.took[a.Cell] = append(r.took[a.Cell], a.Took)
		r.worst = max(r.worst, a.Since)
		return
	}
	r.count[a.Cell]++
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, a)
	}
}

// Longest is the longest time that a request took to be answered, with all the
// attempts that it needed.
func (r *Recorder) Longest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.worst
}

// A CellReport sums up the attempts of one cell's tenants.
type CellReport struct {
	Cell     directory.CellID `json:"cell"`
	Requests int              `json:"requests"` // answered and faulty together
	Errors   int              `json:"errors"`
	P50      Millis           `json:"p50_ms"` // of answered requests
	P99      Millis           `json:"p99_ms"`
	Fault    string           `json:"first_fault,omitempty"`
}

// Cells is a report for each cell, by id.
func (r *Recorder) Cells() []CellReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	reports := map[directory.CellID]CellReport{}
	for cell, took := range r.took {
		p := Percentiles(took)
		reports[cell] = CellReport{Cell: cell, Requests: len(took), P50: p.P50, P99: p.P99}
	}
	for cell, n := range r.count {
		c := reports[cell]
		c.Cell, c.Errors, c.Requests = cell, n, c.Requests+n
		reports[cell] = c
	}
	for _, f := range slices.Backward(r.faults) {
		c := reports[f.Cell]
		c.Fault = f.Fault
		reports[f.Cell] = c
	}
	out := make([]CellReport, 0, len(reports))
	for _, c := range reports {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b CellReport) int { return cmp.Compare(a.Cell, b.Cell) })
	return out
}

// Faults is the faults of a cell's tenants, in the order in which they were kept.
func (r *Recorder) Faults(cell directory.CellID) []Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Attempt
	for _, f := range r.faults {
		if f.Cell == cell {
			out = append(out, f)
		}
	}
	return out
}

// Answered is how many requests of a cell's tenants got their answer.
func (r *Recorder) Answered(cell directory.CellID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.took[cell])
}

package blast

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/cellway/cellway/loadtest/figure"
)

// The goals.
const (
	ratioGoal    = 1.05 // of p99 on the other cells
	attemptsGoal = 1.05 // at the cell for each request
	goodputGoal  = 0.9  // of the peak
	memoryGoal   = 32.0 // MiB that the router may grow by
)

// A Line is what one fault did.
type Line struct {
	Fault string `json:"fault"`
	// Of the other cells: while the fault lasted, and errors at any time.
	Requests int    `json:"requests"`
	Errors   int    `json:"errors"`
	Shed     int    `json:"errors_shed"` // of them: refused by the router with Retry-After
	Why      string `json:"first_error,omitempty"`

	P99Before float64   `json:"p99_before_ms"`
	P99During float64   `json:"p99_during_ms"`
	P99Ratio  float64   `json:"p99_ratio"` // median of the rounds'
	P99Ratios []float64 `json:"p99_ratios"`

	MemoryGrowth float64 `json:"memory_growth_mib"`

	// Of the cell itself.
	VictimAnswered int      `json:"victim_answered"`
	VictimFailed   int      `json:"victim_failed"`
	FastFail       *float64 `json:"fast_fail_ms,omitempty"` // from the fault to the first 503 within 20 ms
	Back           *float64 `json:"back_ms,omitempty"`      // from its return to the first good answer
	Attempts       float64  `json:"attempts_per_request,omitempty"`
	Peak           *float64 `json:"peak_per_second,omitempty"`
	Goodput        *float64 `json:"goodput_of_peak,omitempty"`

	// Of clients that come at once.
	Clients  int      `json:"clients,omitempty"`
	Answered int      `json:"clients_answered,omitempty"`
	Took     *float64 `json:"last_answered_ms,omitempty"` // from the first to come
	Tries    float64  `json:"tries_per_client,omitempty"`

	Missed []string `json:"missed"` // goals
}

// count adds a window of the other cells.
func (l *Line) count(o outcome, during bool) {
	if during {
		l.Requests += o.sent
	}
	l.Errors += o.bad + o.shed
	l.Shed += o.shed
	if l.Why == "" {
		l.Why = o.why
	}
}

// judge compares with the goals.
func (l *Line) judge() {
	l.Missed = []string{}
	miss := func(missed bool, format string, args ...any) {
		if missed {
			l.Missed = append(l.Missed, fmt.Sprintf(format, args...))
		}
	}
	miss(l.Errors > 0, "%d errors on other cells (first: %s)", l.Errors, l.Why)
	memory := memoryGoal + herdMemory*float64(l.Clients)/1024
	miss(l.MemoryGrowth > memory, "memory grew by %.1f MiB, not <= %.0f", l.MemoryGrowth, memory)
	miss(l.Answered < l.Clients, "%d of %d clients had no answer", l.Clients-l.Answered, l.Clients)
	if l.Goodput != nil {
		miss(*l.Goodput < goodputGoal, "goodput %.3f of the peak, not >= %.2f", *l.Goodput, goodputGoal)
		return
	}
	miss(l.P99Ratio > ratioGoal && l.Fault != none, "p99 ratio %.3f, not <= %.2f", l.P99Ratio, ratioGoal)
	miss(l.Attempts > attemptsGoal, "%.3f attempts for each request, not <= %.2f", l.Attempts, attemptsGoal)
}

// A Report is one run, with the machine that it is of. Its JSON form is stable.
type Report struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"`
	Date       string  `json:"date"`
	Machine    string  `json:"machine"`
	Load       string  `json:"load"`
	Version    string  `json:"version"`
	Rounds     int     `json:"rounds"`
	Window     string  `json:"window"`
	Rate       float64 `json:"requests_per_second_and_cell"`
	Lines      []*Line `json:"lines"`
}

func newReport(ctx context.Context, o Options) *Report {
	f := figure.NewReport(ctx, "make blast", o.Source, o.Rounds)
	return &Report{
		APIVersion: f.APIVersion, Kind: "BlastReport", Date: f.Date, Machine: f.Machine, Load: f.Load, Version: f.Version,
		Rounds: o.Rounds, Window: o.Window.String(), Rate: o.rate(),
	}
}

func (r *Report) add(l *Line, progress io.Writer) {
	r.Lines = append(r.Lines, l)
	_, _ = fmt.Fprintf(progress, "%s: %d requests, %d errors on other cells\n", l.Fault, l.Requests, l.Errors)
}

// Missed are the goals that were missed, with their lines' names.
func (r *Report) Missed() (all []string) {
	for _, l := range r.Lines {
		for _, m := range l.Missed {
			all = append(all, l.Fault+": "+m)
		}
	}
	return all
}

// WriteTable prints the report for people: one line for each fault.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "FAULT\tREQUESTS\tERRORS\tP99 BEFORE\tDURING\tRATIO\tMEMORY\tFAST FAIL\tBACK\tATTEMPTS\tGOODPUT\tGOALS")
	for _, l := range r.Lines {
		verdict, ratio, before, during := "met", "-", "-", "-"
		if len(l.Missed) > 0 {
			verdict = "MISSED: " + strings.Join(l.Missed, "; ")
		}
		attempts := "-"
		if l.Goodput == nil && l.Clients == 0 {
			ratio, before, during = fmt.Sprintf("%.3f", l.P99Ratio), fmt.Sprintf("%.2f ms", l.P99Before), fmt.Sprintf("%.2f ms", l.P99During)
			attempts = fmt.Sprintf("%.3f", l.Attempts)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%+.1f MiB\t%s\t%s\t%s\t%s\t%s\n", l.Fault, l.Requests, l.Errors, before, during, ratio,
			l.MemoryGrowth, number(l.FastFail, 0, " ms"), number(l.Back, 0, " ms"), attempts, number(l.Goodput, 3, " of peak"), verdict)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, l := range r.Lines {
		if l.Clients > 0 {
			fmt.Fprintf(w, "\n%s: %d of %d clients that came at once were answered, the last after %s, with %.2f tries each; %.3f attempts at the cell for each try\n",
				l.Fault, l.Answered, l.Clients, number(l.Took, 0, " ms"), l.Tries, l.Attempts)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s; %s; %s; load average %s before; %d rounds of %s; %.0f requests a second to each other cell\n",
		r.Date, r.Version, r.Machine, r.Load, r.Rounds, r.Window, r.Rate)
	return err
}

func number(v *float64, digits int, unit string) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', digits, 64) + unit
}

// Package figure holds what benchmarks measure: values with their goals, the
// report that they make, and its place in docs/BENCHMARKS.md.
package figure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cellway/cellway/loadtest"
)

// A Value is one measured number.
type Value struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Median float64   `json:"median"`
	Rounds []float64 `json:"rounds"`
	Goal   string    `json:"goal,omitempty"`
	Met    *bool     `json:"met,omitempty"` // nil where there is no goal, or no round
	// Missing is why a value that has a goal has no round.
	Missing string `json:"not_measured,omitempty"`
}

// Describe describes a value that is to be measured; goal is "<= 250", ">= 1000"
// or "" where there is none.
func Describe(name, unit, goal string) Value { return Value{Name: name, Unit: unit, Goal: goal} }

// A Figure is what one measurement gives; each benchmark embeds it in how it measures.
type Figure struct {
	Name   string   `json:"name"`
	Title  string   `json:"title"`
	How    string   `json:"how"`
	Values []Value  `json:"values"`
	Notes  []string `json:"notes,omitempty"` // what a reader must know of this run
}

// Wanted reports whether the figure is one of only, which names all where it is empty.
func (f *Figure) Wanted(only []string) bool { return len(only) == 0 || slices.Contains(only, f.Name) }

// Add keeps one round's result of a value that is described.
func (f *Figure) Add(name string, v float64) {
	for i := range f.Values {
		if f.Values[i].Name == name {
			f.Values[i].Rounds = append(f.Values[i].Rounds, v)
			return
		}
	}
	panic("figure: no value " + name + " in " + f.Name) // names are constants of the benchmarks
}

// Note adds a note, unless it is there.
func (f *Figure) Note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	if !slices.Contains(f.Notes, note) {
		f.Notes = append(f.Notes, note)
	}
}

// Conclude takes the median of each value's rounds and compares it with the goal.
// A value that no round measured is dropped: it says nothing. One that has a goal
// stays, for a goal must not vanish.
func (f *Figure) Conclude() {
	var measured []Value
	for _, v := range f.Values {
		if len(v.Rounds) == 0 {
			if v.Goal != "" {
				measured = append(measured, v)
			}
			continue
		}
		v.Median = loadtest.Median(v.Rounds)
		if v.Goal != "" {
			met := meets(v.Median, v.Goal)
			v.Met = &met
		}
		measured = append(measured, v)
	}
	f.Values = measured
}

// meets reports whether v satisfies a goal. Goals are constants of the benchmarks.
func meets(v float64, goal string) bool {
	op, bound, _ := strings.Cut(goal, " ")
	b, err := strconv.ParseFloat(bound, 64)
	switch {
	case err != nil:
		panic("figure: goal " + strconv.Quote(goal) + ": " + err.Error())
	case op == "<=":
		return v <= b
	case op == ">=":
		return v >= b
	case op == "=":
		return v == b
	}
	panic("figure: goal " + strconv.Quote(goal))
}

// Number shows as many digits as matter.
func Number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// number is the median, "-" where there is none.
func (v Value) number() string {
	if len(v.Rounds) == 0 {
		return "-"
	}
	return Number(v.Median)
}

// Verdict is the goal and whether it was met, for tables.
func (v Value) Verdict() string {
	switch {
	case v.Goal != "" && len(v.Rounds) == 0 && v.Missing != "":
		return v.Goal + ": NOT MEASURED (" + v.Missing + ")"
	case v.Goal != "" && len(v.Rounds) == 0:
		return v.Goal + ": NOT MEASURED"
	case v.Met == nil:
		return ""
	case *v.Met:
		return v.Goal + ": met"
	}
	return v.Goal + ": MISSED"
}

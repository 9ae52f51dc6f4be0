package bench

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cellway/cellway/loadtest"
)

// value describes a value; goal is "<= 250", ">= 1000" or "" where there is none.
func value(name, unit, goal string) Value { return Value{Name: name, Unit: unit, Goal: goal} }

// conclude takes the median of each value's rounds and compares it with the goal.
func (m *measure) conclude() {
	for i := range m.Values {
		v := &m.Values[i]
		v.Median = loadtest.Median(v.Rounds)
		if v.Goal != "" {
			met := meets(v.Median, v.Goal)
			v.Met = &met
		}
	}
}

// meets reports whether v satisfies a goal. The goals are constants of this package.
func meets(v float64, goal string) bool {
	op, bound, _ := strings.Cut(goal, " ")
	b, err := strconv.ParseFloat(bound, 64)
	switch {
	case err != nil:
		panic("bench: goal " + strconv.Quote(goal) + ": " + err.Error())
	case op == "<=":
		return v <= b
	case op == ">=":
		return v >= b
	case op == "=":
		return v == b
	}
	panic("bench: goal " + strconv.Quote(goal))
}

// number shows as many digits as matter.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// verdict is the goal and whether it was met, for tables.
func (v Value) verdict() string {
	switch {
	case v.Met == nil:
		return ""
	case *v.Met:
		return v.Goal + ": met"
	}
	return v.Goal + ": MISSED"
}

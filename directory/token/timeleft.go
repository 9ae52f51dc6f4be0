package token

import (
	"strconv"
	"time"
)

// TimeLeftHeader carries how much time the router has left for a request, in
// milliseconds: a cell need not work on what nobody waits for. It is a length of
// time and no time of day, so that clocks need not agree.
const TimeLeftHeader = "Cell-Time-Left"

// steps are the values that are sent, made once: most requests have the same.
var steps = makeSteps()

const (
	step    = 100 * time.Millisecond
	stepMax = time.Minute
)

func makeSteps() (s [stepMax/step + 1]string) {
	for i := range s {
		s[i] = strconv.FormatInt((time.Duration(i) * step).Milliseconds(), 10)
	}
	return s
}

// TimeLeft is d for the header, rounded down to a tenth of a second where it is
// between one second and a minute.
func TimeLeft(d time.Duration) string {
	if d >= time.Second && d <= stepMax {
		return steps[d/step]
	}
	return strconv.FormatInt(max(d, 0).Milliseconds(), 10)
}

// ParseTimeLeft reads the header's value; ok is false for one that is not a
// number of milliseconds up to a day.
func ParseTimeLeft(s string) (d time.Duration, ok bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (24*time.Hour).Milliseconds() {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

package benchmove

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A step is one call that a process answered, from its access log.
type step struct {
	Time     time.Time     `json:"time"` // when it had been answered
	Path     string        `json:"path"`
	Status   int           `json:"status"`
	Duration time.Duration `json:"duration"`
}

// does reports whether the step is the named one and went well.
func (s step) does(name string) bool { return strings.HasSuffix(s.Path, "/"+name) && s.Status < 300 }

// readSteps reads what movers asked of the named processes since a time, in the
// order of the answers.
func readSteps(dir string, since time.Time, names ...string) ([]step, error) {
	var all []step
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, "log", name+".log"))
		if err != nil {
			return nil, fmt.Errorf("read steps: %w", err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			b := lines.Bytes()
			if !bytes.Contains(b, []byte(`/transfer/v1/`)) && !bytes.Contains(b, []byte(`/advance"`)) {
				continue
			}
			var s step
			if err := json.Unmarshal(b, &s); err == nil && s.Path != "" && s.Time.After(since) {
				all = append(all, s)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read steps of %s: %w", name, err)
		}
	}
	slices.SortFunc(all, func(a, b step) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return all, nil
}

// A cutover is how long each step of one move's pause took: round and rows, which are
// asked for before it, from the end of the freeze.
type cutover struct{ freeze, round, rows, record, decide, activate time.Duration }

// cutovers finds the pauses in the steps of moves that came one after the other:
// each ends with an activation, and begins with the last freeze before it, which is
// recorded right before.
func cutovers(steps []step) []cutover {
	var all []cutover
	var c cutover
	var frozen time.Time
	var last time.Duration // of the record that was made last
	for _, s := range steps {
		switch {
		case s.does("freeze"):
			c, frozen, last = cutover{freeze: s.Duration, record: last}, s.Time, 0
		case s.does("rows"):
			c.rows = s.Time.Sub(frozen)
		case s.does("pull"):
			c.round = s.Time.Sub(frozen)
		case s.does("advance"):
			last = s.Duration
		case s.does("activate") && c.freeze > 0 && last > 0:
			c.decide, c.activate = last, s.Duration
			all = append(all, c)
			c = cutover{}
		}
	}
	return all
}

// tellSteps adds the median of each step of the pauses since a time.
func tellSteps(w *world, m *measure, since time.Time) error {
	names := []string{"directory"}
	for _, c := range w.state.Cells {
		names = append(names, c.ID)
	}
	found, err := readSteps(w.state.Dir, since, names...)
	if err != nil {
		return err
	}
	for _, c := range cutovers(found) {
		m.Add("step: freeze", ms(c.freeze))
		m.Add("step: last round", ms(c.round))
		m.Add("step: last round, at the source", ms(c.rows))
		m.Add("step: record frozen", ms(c.record))
		m.Add("step: decide", ms(c.decide))
		m.Add("step: activate", ms(c.activate))
	}
	return nil
}

package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cellway/cellway/loadtest/figure"
)

// A measure is one figure: a run against each contender, and how ours compares.
type measure struct {
	figure.Figure
	unit   string
	rounds int  // at most; 0 is all of them. Counts and bytes do not change from round to round
	self   bool // of our router alone; at half the rate where load and origin have no room for it
	floor  bool // also of the relay that does nothing
	run    func(ctx context.Context, l *lab, c *contender) (map[string]float64, error)
	first  func(ctx context.Context, l *lab) error // before the contenders of a round
	ratios []ratio
	goals  map[string]string // of our own values

	refused map[string]int    // rounds, by contender
	why     map[string]string // what a contender, or a value of it, has no value for
}

// A ratio compares a value of ours with the same one of a peer.
type ratio struct{ kind, peer, goal string }

// round measures every contender once. The order changes from round to round, so
// that nobody always follows the same one.
func (m *measure) round(ctx context.Context, l *lab, round int) error {
	if m.first != nil {
		if err := m.first(ctx, l); err != nil {
			if b, refused := errors.AsType[bottleneck](err); refused {
				m.refuse("all", b.who)
				return nil
			}
			return err
		}
	}
	got := map[string]map[string]float64{}
	n := len(l.contenders)
	for i := range n {
		c := l.contenders[(i+round)%n]
		if m.self && c.name != l.ours || !m.floor && c.name == floorName {
			continue
		}
		values, err := m.run(ctx, l, c)
		if m.self && isBottleneck(err) { // what is counted for each request is the same at a half
			whole := l.o.Rate
			l.o.Rate = max(1, whole/2)
			values, err = m.run(ctx, l, c)
			l.o.Rate = whole
		}
		b, refused := errors.AsType[bottleneck](err)
		_, none := errors.AsType[notApplicable](err)
		switch {
		case err == nil:
			got[c.name] = values
		case refused:
			m.refuse(c.name, b.who)
		case none || ctx.Err() == nil:
			m.fail(c.name, err.Error())
		default:
			return err
		}
	}
	m.keep(l, got)
	return nil
}

// refuse notes a round that measured load or origin: one note for each contender.
func (m *measure) refuse(name, who string) {
	if m.refused == nil {
		m.refused = map[string]int{}
	}
	note := fmt.Sprintf("%s: %%d refused: in the last ", name)
	before := fmt.Sprintf(note, m.refused[name])
	m.Notes = slices.DeleteFunc(m.Notes, func(n string) bool { return strings.HasPrefix(n, before) })
	m.refused[name]++
	m.Note("%s%s.", fmt.Sprintf(note, m.refused[name]), who)
	m.because(name, fmt.Sprintf("%d rounds refused: %s", m.refused[name], who))
}

// fail notes why a round has no value.
func (m *measure) fail(name, why string) {
	m.Note("%s: %s.", name, why)
	m.because(name, why)
}

func (m *measure) because(name, why string) {
	if m.why == nil {
		m.why = map[string]string{}
	}
	first, _, _ := strings.Cut(why, "\n")
	m.why[name] = name + ": " + first
}

// conclude ends the figure. A goal of which no round has a value is there with the
// reason.
func (m *measure) conclude(l *lab) {
	for _, kind := range slices.Sorted(maps.Keys(m.goals)) {
		if goal := m.goals[kind]; goal != "" {
			m.expect(l, join(l.ours, kind), m.unit, goal, l.ours)
		}
	}
	for _, r := range m.ratios {
		if r.goal != "" {
			m.expect(l, join(l.ours+" / "+r.peer, r.kind), "x", r.goal, l.ours, r.peer)
		}
	}
	m.Conclude()
}

// expect adds a value that should have been measured, of these contenders.
func (m *measure) expect(l *lab, name, unit, goal string, of ...string) {
	if slices.ContainsFunc(m.Values, func(x figure.Value) bool { return x.Name == name }) {
		return
	}
	v := figure.Describe(name, unit, goal)
	v.Missing = "never in the same round"
	for _, c := range append([]string{"all", name}, of...) {
		if why, ok := m.why[c]; ok {
			v.Missing = why
			break
		}
		if slices.Contains(of, c) && l.byName(c) == nil {
			v.Missing = c + " is not in this run"
			break
		}
	}
	m.Values = append(m.Values, v)
}

// A notApplicable is the error of a contender that has not what is measured.
type notApplicable struct{ why string }

// Error says why.
func (n notApplicable) Error() string { return n.why }

// keep adds a round's values in the contenders' order, and the ratios that they make.
func (m *measure) keep(l *lab, got map[string]map[string]float64) {
	for _, c := range l.contenders {
		values, ok := got[c.name]
		if !ok {
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(values)) {
			goal := ""
			if c.name == l.ours {
				goal = m.goals[kind]
			}
			m.put(join(c.name, kind), m.unit, goal, values[kind])
		}
	}
	for _, r := range m.ratios {
		ours, theirs := got[l.ours], got[r.peer]
		if ours != nil && theirs != nil && theirs[r.kind] > 0 {
			m.put(join(l.ours+" / "+r.peer, r.kind), "x", r.goal, ours[r.kind]/theirs[r.kind])
		}
		if floor := got[floorName]; floor != nil && theirs != nil && r.peer != floorName && theirs[r.kind] > 0 { // what nobody can be under
			m.put(join(floorName+" / "+r.peer, r.kind), "x", "", floor[r.kind]/theirs[r.kind])
		}
	}
}

func join(name, kind string) string {
	if kind == "" {
		return name
	}
	return name + ", " + kind
}

// put adds a round's value, which is described by its first round.
func (m *measure) put(name, unit, goal string, v float64) {
	if !slices.ContainsFunc(m.Values, func(x figure.Value) bool { return x.Name == name }) {
		m.Values = append(m.Values, figure.Describe(name, unit, goal))
	}
	m.Add(name, v)
}

// chosen are the measures that the options ask for.
func (l *lab) chosen(all []*measure) []*measure {
	return slices.DeleteFunc(all, func(m *measure) bool { return !m.Wanted(l.o.Only) })
}

// Names is the name of every figure.
func Names() []string {
	var names []string
	for _, m := range append(measures(), unpinned()...) {
		names = append(names, m.Name)
	}
	return names
}

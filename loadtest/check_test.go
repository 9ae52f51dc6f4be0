package loadtest

import (
	"slices"
	"strings"
	"testing"
)

// TestCheckSeesWhatIsWrong gives the comparison each fault that it is there to find.
func TestCheckSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	writes := []Write{
		{Subject: "project/p", Verb: Created, Name: "p"},
		{Subject: "task/t", Verb: Created, Name: "t", State: "todo"},
		{Subject: "task/t", Verb: Transitioned, Name: "t", State: "doing"},
	}
	for _, tt := range []struct {
		name  string
		found map[string]int
		state string
		want  Check
	}{
		{"all there", map[string]int{"p": 1, "t": 1}, "doing", Check{}},
		{"a row lost", map[string]int{"p": 1}, "doing", Check{Lost: 1}},
		{"a row doubled", map[string]int{"p": 1, "t": 2}, "doing", Check{Doubled: 1}},
		{"a row from nowhere", map[string]int{"p": 1, "t": 1, "x": 1}, "doing", Check{Unknown: 1}},
		{"a change lost", map[string]int{"p": 1, "t": 1}, "todo", Check{Lost: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got Check
			got.compare(writes, tt.found, map[string]string{"task/t": tt.state})
			if got.Lost != tt.want.Lost || got.Doubled != tt.want.Doubled || got.Unknown != tt.want.Unknown {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if got.OK() != tt.want.OK() || got.OK() != (len(got.Named) == 0) {
				t.Errorf("OK is %v with faults %v", got.OK(), got.Named)
			}
		})
	}
}

func event(seq int64, subject, verb string) Event {
	return Event{Seq: seq, Subject: subject, Type: "com.cellway.projects.x." + verb + ".v1", EventID: subject + verb + string(rune('0'+seq))}
}

// TestEventOrderIsHeld gives the oracle good and bad streams of one lane's events.
func TestEventOrderIsHeld(t *testing.T) {
	t.Parallel()
	writes := []Write{
		{Subject: "project/p", Verb: Created}, {Subject: "task/t", Verb: Created}, {Subject: "task/t", Verb: Transitioned},
	}
	good := []Event{event(1, "project/p", Created), event(2, "task/t", Created), event(3, "task/t", Transitioned)}
	for _, tt := range []struct {
		name   string
		events []Event
		ok     bool
	}{
		{"in order", good, true},
		{"with another lane's between", []Event{good[0], event(2, "task/u", Created), event(3, "task/t", Created), event(4, "task/t", Transitioned)}, true},
		{"one missing", good[:2], false},
		{"a gap", []Event{good[0], event(3, "task/t", Created), event(4, "task/t", Transitioned)}, false},
		{"two of one row swapped", []Event{good[0], event(2, "task/t", Transitioned), event(3, "task/t", Created)}, false},
		{"two rows swapped", []Event{event(1, "task/t", Created), event(2, "project/p", Created), event(3, "task/t", Transitioned)}, false},
		{"one twice", []Event{good[0], good[1], good[1], good[2]}, false},
		{"never due", append(slices.Clone(good), event(4, "task/d", Created)), false},
		{"due once", append(slices.Clone(good), event(4, "task/d", Created), event(5, "task/d", Due)), true},
		{"due twice", append(slices.Clone(good), event(4, "task/d", Created), event(5, "task/d", Due), event(6, "task/d", Due)), false},
		{"due before it was made", append(slices.Clone(good), event(4, "task/d", Due), event(5, "task/d", Created)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &lane{tenant: &Tenant{}, writes: slices.Clone(writes)}
			if strings.Contains(tt.name, "due") {
				l.dated = []string{"task/d"}
				l.remember(Write{Subject: "task/d", Verb: Created})
			}
			var c EventCheck
			c.checkNumbers("acme", tt.events)
			c.checkOrder(l, tt.events)
			if got := c.Faults == 0; got != tt.ok {
				t.Errorf("ok is %v, want %v: %v", got, tt.ok, c.Named)
			}
		})
	}
}

func TestEventIDTwice(t *testing.T) {
	t.Parallel()
	a, b := event(1, "task/t", Created), event(2, "task/t", Created)
	b.EventID = a.EventID
	var c EventCheck
	c.checkNumbers("acme", []Event{a, b})
	if c.Faults != 1 {
		t.Errorf("faults: got %d, want 1: %v", c.Faults, c.Named)
	}
}

// TestALostEventDoesNotMakeUpForADoubledOne: there are as many as there should be, and the numbers have no gap.
func TestALostEventDoesNotMakeUpForADoubledOne(t *testing.T) {
	t.Parallel()
	again := event(2, "project/p", Created)
	again.EventID = event(1, "project/p", Created).EventID
	for _, tt := range []struct {
		name          string
		events        []Event
		lost, doubled int64
	}{
		{"all", []Event{event(1, "project/p", Created), event(2, "task/t", Created), event(3, "task/t", Transitioned)}, 0, 0},
		{"one lost", []Event{event(1, "project/p", Created), event(2, "task/t", Created)}, 1, 0},
		{"one consumed twice", []Event{event(1, "project/p", Created), again, event(3, "task/t", Transitioned)}, 1, 1},
		{"one written twice", []Event{event(1, "project/p", Created), event(2, "project/p", Created), event(3, "task/t", Transitioned)}, 1, 1},
		{"one from nowhere", []Event{event(1, "project/p", Created), event(2, "task/t", Created), event(3, "task/u", Created)}, 1, 1},
	} {
		l := &lane{tenant: &Tenant{}, writes: []Write{
			{Subject: "project/p", Verb: Created}, {Subject: "task/t", Verb: Created}, {Subject: "task/t", Verb: Transitioned},
		}}
		var c EventCheck
		c.count([]*lane{l}, tt.events)
		if c.Lost != tt.lost || c.Doubled != tt.doubled {
			t.Errorf("%s: got %d lost and %d doubled, want %d and %d", tt.name, c.Lost, c.Doubled, tt.lost, tt.doubled)
		}
	}
}

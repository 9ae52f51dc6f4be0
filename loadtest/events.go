package loadtest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The verbs of the events that a Tenant's writes, and its tasks' dates, cause: the last word of the
// event's type before its version.
const (
	Created      = "created"
	Transitioned = "transitioned"
	Due          = "due"
)

// An Event is one event as a consumer of the tenant's own has seen it.
type Event struct {
	Seq     int64     `json:"seq"`
	Type    string    `json:"type"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	EventID string    `json:"event_id"`
}

// verb is the last word of the type before its version: "...task.created.v1" is "created".
func (e Event) verb() string {
	parts := strings.Split(e.Type, ".")
	if n := len(parts); n >= 2 {
		return parts[n-2]
	}
	return e.Type
}

// An EventCheck compares the events that were written with those that were consumed.
type EventCheck struct {
	Written  int64    `json:"written"`
	Consumed int64    `json:"consumed"`
	Lost     int64    `json:"lost"`    // that a write, or a task's date, caused and nobody consumed
	Doubled  int64    `json:"doubled"` // consumed again, or caused by no acknowledged write
	Faults   int      `json:"faults"`  // gaps, repetitions, wrong order, events nobody caused
	Named    []string `json:"named,omitempty"`
}

// OK reports whether every event was consumed once and in order.
func (c EventCheck) OK() bool { return c.Faults == 0 && c.Written == c.Consumed }

// Plus adds up two checks.
func (c EventCheck) Plus(d EventCheck) EventCheck {
	return EventCheck{
		Written: c.Written + d.Written, Consumed: c.Consumed + d.Consumed,
		Lost: c.Lost + d.Lost, Doubled: c.Doubled + d.Doubled, Faults: c.Faults + d.Faults, Named: append(c.Named, d.Named...),
	}
}

func (c *EventCheck) fault(format string, args ...any) {
	c.Faults++
	if len(c.Named) < maxNamed {
		c.Named = append(c.Named, fmt.Sprintf(format, args...))
	}
}

// LastEvent is the number of the last event that the tenant's cell has written with the data.
func (t *Tenant) LastEvent(ctx context.Context) (int64, error) {
	var p struct{ Last int64 }
	if err := t.get(ctx, "/v1/events/position", &p); err != nil {
		return 0, fmt.Errorf("ask for the event position of %s: %w", t.Slug, err)
	}
	return p.Last, nil
}

// Activity is every event consumed with a sequence number above after.
func (t *Tenant) Activity(ctx context.Context, after int64) ([]Event, error) {
	var all []Event
	for {
		var page struct {
			Items []Event `json:"items"`
		}
		if err := t.get(ctx, fmt.Sprintf("/v1/activity?after=%d&limit=%d", after, pageSize), &page); err != nil {
			return nil, fmt.Errorf("read the activity of %s: %w", t.Slug, err)
		}
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all, nil
		}
		after = page.Items[len(page.Items)-1].Seq
	}
}

// Seen reports whether the tenant's event number seq has been consumed.
func (t *Tenant) Seen(ctx context.Context, seq int64) (bool, error) {
	var page struct {
		Items []Event `json:"items"`
	}
	if err := t.get(ctx, fmt.Sprintf("/v1/activity?after=%d&limit=1", seq-1), &page); err != nil {
		return false, fmt.Errorf("ask for event %d of %s: %w", seq, t.Slug, err)
	}
	return len(page.Items) > 0, nil
}

// awaitDue waits until each task with a date has fallen due.
func (t *Tenant) awaitDue(ctx context.Context) error {
	waiting := map[string]bool{}
	for _, l := range t.lanes {
		for _, subject := range l.dated {
			waiting[subject] = true
		}
	}
	after := int64(0)
	return Until(ctx, "the tasks of "+t.Slug+" to fall due", 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		if len(waiting) == 0 {
			return true, nil
		}
		events, err := t.Activity(ctx, after)
		for _, e := range events {
			if after = e.Seq; e.verb() == Due {
				delete(waiting, e.Subject)
			}
		}
		return len(waiting) == 0, err
	})
}

// AwaitConsumed waits until tasks with a date have fallen due, and the last event that is written then has been consumed.
func (t *Tenant) AwaitConsumed(ctx context.Context) error {
	if err := t.awaitDue(ctx); err != nil {
		return err
	}
	last, err := t.LastEvent(ctx)
	if err != nil || last == 0 {
		return err
	}
	what := fmt.Sprintf("event %d of %s to be consumed", last, t.Slug)
	return Until(ctx, what, 20*time.Millisecond, func(ctx context.Context) (bool, error) { return t.Seen(ctx, last) })
}

// CheckEvents compares the tenant's writes with what its cell says was written
// to the outbox and with what was consumed: as many, numbered 1 to n without a
// gap, each write's event once, and those of one lane in the lane's order; and
// each task with a date has fallen due, once. It must not be called while Work runs.
func (t *Tenant) CheckEvents(ctx context.Context) (EventCheck, error) {
	var c EventCheck
	last, err := t.LastEvent(ctx)
	if err != nil {
		return c, err
	}
	events, err := t.Activity(ctx, 0)
	if err != nil {
		return c, err
	}
	c.Written, c.Consumed = last, int64(len(events))
	writes, dated := int64(len(t.Writes())), int64(0)
	for _, l := range t.lanes {
		dated += int64(len(l.dated))
	}
	if last != writes+dated {
		c.fault("%s: %d writes were acknowledged, %d tasks fall due and %d events written", t.Slug, writes, dated, last)
	}
	c.count(t.lanes, events)
	c.checkNumbers(t.Slug, events)
	for _, l := range t.lanes {
		c.checkOrder(l, events)
	}
	return c, nil
}

// count looks for each event that was to come, and at each that came: as many of both may be one that is lost and
// another one that came twice.
func (c *EventCheck) count(lanes []*lane, events []Event) {
	type cause struct{ subject, verb string }
	due := map[cause]int64{}
	for _, l := range lanes {
		for _, w := range l.writes {
			due[cause{w.Subject, w.Verb}]++
		}
		for _, subject := range l.dated {
			due[cause{subject, Due}]++
		}
	}
	seen := map[string]bool{}
	for _, e := range events {
		if of := (cause{e.Subject, e.verb()}); !seen[e.EventID] && due[of] > 0 {
			due[of]--
		} else {
			c.Doubled++
		}
		seen[e.EventID] = true
	}
	for _, n := range due {
		c.Lost += n
	}
}

func (c *EventCheck) checkNumbers(slug string, events []Event) {
	ids := map[string]bool{}
	for i, e := range events {
		if e.Seq != int64(i)+1 {
			c.fault("%s: the event after %d has number %d", slug, i, e.Seq)
			return
		}
		if ids[e.EventID] {
			c.fault("%s: event %s was consumed twice", slug, e.EventID)
		}
		ids[e.EventID] = true
	}
}

// checkOrder walks a lane's writes and the events side by side: the next event
// about each write's subject must be that write's, and lie after the lane's last.
func (c *EventCheck) checkOrder(l *lane, events []Event) {
	of := map[string][]Event{}
	for _, e := range events {
		of[e.Subject] = append(of[e.Subject], e)
	}
	last := int64(0)
	for _, w := range l.writes {
		rest := of[w.Subject]
		switch {
		case len(rest) == 0:
			c.fault("%s: no event for %s %s", l.tenant.Slug, w.Subject, w.Verb)
			continue
		case rest[0].verb() != w.Verb:
			c.fault("%s: event %d about %s is %s, the write was %s", l.tenant.Slug, rest[0].Seq, w.Subject, rest[0].Type, w.Verb)
		case rest[0].Seq <= last:
			c.fault("%s: event %d about %s lies before %d, which was written first", l.tenant.Slug, rest[0].Seq, w.Subject, last)
		}
		last, of[w.Subject] = rest[0].Seq, rest[1:]
	}
	for _, subject := range l.dated {
		if rest := of[subject]; len(rest) != 1 || rest[0].verb() != Due {
			c.fault("%s: %s fell due %d times", l.tenant.Slug, subject, len(rest))
		}
	}
}

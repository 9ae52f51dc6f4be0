package cell

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

// A Place is where a client is in a tenant's stream, or in a list of what the stream
// tells: behind an event that it has seen. Mark is what tells that event from another one that was given the same
// number after the database had lost its last commits; "" is not known. The zero
// Place is the beginning.
type Place struct {
	Seq  int64
	Mark string
}

// markLength is how much of an event's id is its mark: the end of a UUID of version 7
// is 48 random bits.
const markLength = 12

var placeForm = regexp.MustCompile(`^([0-9]{1,18})(?:-([0-9a-f]{12}))?$`)

// ParsePlace reads what a client sends as Last-Event-ID: the id of a Message or, from
// clients that were told so before ids had marks, its number.
func ParsePlace(s string) (Place, error) {
	m := placeForm.FindStringSubmatch(s)
	if m == nil {
		return Place{}, problem.New(problem.Invalid, "Last-Event-ID is no id of this stream")
	}
	seq, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return Place{}, problem.Wrap(problem.Invalid, err, "Last-Event-ID is no id of this stream")
	}
	return Place{Seq: seq, Mark: m[2]}, nil
}

// String is the id as it goes to the client.
func (p Place) String() string {
	if p.Mark == "" {
		return strconv.FormatInt(p.Seq, 10)
	}
	return strconv.FormatInt(p.Seq, 10) + "-" + p.Mark
}

// Place is behind the message.
func (m Message) Place() Place {
	return Place{Seq: m.Seq, Mark: m.Event[max(0, len(m.Event)-markLength):]}
}

// is reports whether the event of that number and id is the one that p is behind.
func (p Place) is(seq int64, event string) bool {
	return p.Seq == seq && (p.Mark == "" || p == Message{Seq: seq, Event: event}.Place())
}

// Behind is the messages of batch, which begins at p where it has that message, that
// follow p. lost says that the event that p is behind is not of this database's
// history: what follows p by number need not be what the client has not seen.
func (p Place) Behind(ctx context.Context, tx *store.Tx, batch []Message) (rest []Message, lost bool, err error) {
	switch {
	case p.Seq == 0:
		return batch, false, nil
	case len(batch) > 0 && batch[0].Seq == p.Seq:
		return batch[1:], !p.is(p.Seq, batch[0].Event), nil
	}
	// What consumers made of the event may be lost where the event is not: they make it again.
	last, event, err := outbox.Lookup(ctx, tx, p.Seq)
	if err != nil {
		return nil, false, fmt.Errorf("look for event %d: %w", p.Seq, err)
	}
	return batch, p.Seq > last || !p.is(p.Seq, event), nil
}

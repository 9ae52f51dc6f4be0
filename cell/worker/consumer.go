package worker

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// A Consumer reacts to events of one tenant in order, once each.
type Consumer struct {
	// Name is unique in the cell; it is the consumer group and the inbox key.
	Name string
	// Types are the event types it wants; empty is all.
	Types []string
	// Handle applies the event within tx, together with the inbox entry: both or
	// neither. It should be short: a move of the tenant waits for it. Several events may
	// share a transaction: what the one before has queued is not there yet, and an error
	// at the commit is found by trying them one at a time. An error or a panic is retried;
	// after the last attempt the event is parked as a dead letter and the next one is
	// taken. What is Unavailable is no attempt: it is tried again without an end.
	Handle func(ctx context.Context, tx *store.Tx, e outbox.Event) error
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,62}$`)

func validate(consumers []Consumer) error {
	for i, c := range consumers {
		if !nameForm.MatchString(c.Name) || c.Handle == nil {
			return fmt.Errorf("consumer %q: needs a name that matches %s, and a function", c.Name, nameForm)
		}
		if slices.ContainsFunc(consumers[:i], func(o Consumer) bool { return o.Name == c.Name }) {
			return fmt.Errorf("consumer %q: the name is there twice", c.Name)
		}
	}
	return nil
}

func (c Consumer) wants(e outbox.Event) bool {
	return len(c.Types) == 0 || slices.Contains(c.Types, e.Type)
}

// handle calls the consumer under a deadline, in the trace of the event.
func (g *group) handle(ctx context.Context, tx *store.Tx, e outbox.Event) (err error) {
	if !g.consumer.wants(e) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.w.o.HandleTimeout)
	defer cancel()
	ctx, span := e.ConsumeSpan(ctx, g.consumer.Name)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		outbox.EndSpan(span, err)
	}()
	return g.consumer.Handle(ctx, tx, e)
}

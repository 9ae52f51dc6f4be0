// Package worker runs the reactions to events: each consumer sees each tenant's
// events in order and has its effect once.
package worker

import (
	"context"

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
	// neither. An error is retried; after the last attempt the event is parked as
	// a dead letter and the next one is taken.
	Handle func(ctx context.Context, tx *store.Tx, e outbox.Event) error
}

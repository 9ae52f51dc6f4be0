package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/router/table"
)

// Follow keeps t up to date with feed until ctx ends, acknowledging as router
// what t serves. A directory that is dead costs a log line now and then.
func Follow(ctx context.Context, feed directory.Feed, router string, t *table.Table, log *slog.Logger) error {
	return client.Watch(ctx, feed, client.WatchOptions{
		Router: router, From: t.View().Version(),
		Apply: func(ctx context.Context, u directory.Update) error {
			if err := t.Apply(u); err != nil {
				return err
			}
			log.DebugContext(ctx, "table applied", "version", u.Version, "routes", len(u.Routes))
			return nil
		},
		Alive: func(u directory.Update) error { return t.Confirm(u.Version, u.Head) },
		Failed: func(err error, pause time.Duration) {
			if b, broken := errors.AsType[*directory.Breach](err); broken {
				t.Broken(b.Reason)
				log.WarnContext(ctx, "directory's changes do not continue the table, which stays as it is",
					"reason", b.Reason, "error", err, "pause", pause, "version", t.View().Version())
				return
			}
			log.WarnContext(ctx, "directory does not answer; the table stays as it is",
				"error", err, "pause", pause, "version", t.View().Version())
		},
	})
}

// RefreshFrom makes the Refresh of Options: it asks feed for what is newer than
// t now, without waiting for anything to happen.
func RefreshFrom(feed directory.Feed, t *table.Table) func(context.Context) error {
	return func(ctx context.Context) error {
		u, err := feed.Changes(ctx, "", t.View().Version(), 0)
		if err != nil {
			return fmt.Errorf("refresh table: %w", err)
		}
		return t.Apply(u)
	}
}

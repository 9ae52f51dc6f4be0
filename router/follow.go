package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

// A Feed is what a Router follows.
type Feed interface {
	directory.Feed
	Poll(ctx context.Context, router string, since directory.Version, wait time.Duration, has directory.Report) (directory.Update, error)
}

// Follow keeps the Router's table up to date with feed until ctx ends, acknowledging as id
// what it serves, and takes the router's part in roll-outs. A directory that is dead costs a
// log line now and then.
func (rt *Router) Follow(ctx context.Context, feed Feed, id string) error {
	t, log, fares := rt.Table, rt.Log, &health{cells: rt.metrics.cells}
	o := client.WatchOptions{Router: id}
	o.Poll = func(ctx context.Context, router string, since directory.Version, wait time.Duration) (directory.Update, error) {
		has := fares.of(t.Part())
		has.Refused = t.Refusal()
		return feed.Poll(ctx, router, since, wait, has)
	}
	o.At = func() directory.Version { return t.View().Version() } // RefreshFrom brings it further, too
	o.Apply = func(ctx context.Context, u directory.Update) error {
		if err := t.Apply(u); err != nil {
			return err
		}
		log.DebugContext(ctx, "table applied", "version", u.Version, "routes", len(u.Routes))
		if u.Part != nil {
			log.InfoContext(ctx, "part in a roll-out", "rollout", u.Part.Rollout, "round", u.Part.Round, "serves", u.Part.Serves())
		}
		return nil
	}
	o.Alive = func(u directory.Update) error { return t.Confirm(u.Version, u.Head) }
	o.Failed = func(err error, pause time.Duration) {
		if p := t.Part(); p.Rollout != "" && time.Since(t.Confirmed()) > directory.HeartbeatTTL {
			t.DropPart()
			log.WarnContext(ctx, "directory is silent: the roll-out's changes are not served any more", "rollout", p.Rollout)
		}
		if b, broken := errors.AsType[*directory.Breach](err); broken {
			t.Broken(b.Reason)
			log.WarnContext(ctx, "directory's changes do not continue the table, which stays as it is",
				"reason", b.Reason, "error", err, "pause", pause, "version", t.View().Version())
			return
		}
		if errors.Is(err, problem.Conflict) || errors.Is(err, directory.ErrPart) {
			log.WarnContext(ctx, "what the directory wants is not served; the table stays without it", "error", err, "pause", pause)
			return
		}
		log.WarnContext(ctx, "directory does not answer; the table stays as it is",
			"error", err, "pause", pause, "version", t.View().Version())
	}
	return client.Watch(ctx, feed, o)
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

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
)

// way is the phases that a mover records of a move that goes well.
var way = []directory.Phase{
	directory.Planned, directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp,
	directory.Frozen, directory.Staged, directory.Decided, directory.Activated, directory.Watching, directory.Completed,
}

// works [SLUG...] is a mover from here to the end of the script, as far as the
// directory can tell: moves go well, but for those of the tenants named, which are
// aborted for good, of the tenant lost, whose target does not answer, of the
// tenant kept, whose copies nobody compares or purges, and of broken and those whose name begins with
// torn, whose copies are found to differ.
func works(ts *testscript.TestScript, _ bool, args []string) {
	tb := ts.Value(scriptKey{}).(script).tb
	d, err := client.New(client.Options{URL: ts.Getenv("CELLCTL_ADDR"), Token: ts.Getenv("CELLCTL_TOKEN")})
	ts.Check(err)
	ctx, cancel := context.WithCancel(tb.Context())
	w := worker{d, args}
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx, tb) })
	ts.Defer(func() { cancel(); wg.Wait() })
}

// rehearses [SLUG...] is a mover that tries moves only, from here to the end of the script: all
// would arrive but for those of the tenants named, one of whose tables has no key, and
// of the tenant lost, whose target does not answer. The tenant large is not counted to its end.
func rehearses(ts *testscript.TestScript, _ bool, args []string) {
	tb := ts.Value(scriptKey{}).(script).tb
	d, err := client.New(client.Options{URL: ts.Getenv("CELLCTL_ADDR"), Token: ts.Getenv("CELLCTL_TOKEN")})
	ts.Check(err)
	ctx, cancel := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if r, err := d.LeaseRehearsal(ctx, "", "mover-1", time.Minute); err == nil {
				if err := tried(ctx, d, r, args); err != nil && ctx.Err() == nil {
					tb.Errorf("rehearse %s: %v", r.ID, err)
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	ts.Defer(func() { cancel(); wg.Wait() })
}

// tried reports of a rehearsal.
func tried(ctx context.Context, d *client.Client, r directory.Rehearsal, unlucky []string) error {
	t, err := d.Tenant(ctx, r.Move.Tenant.String())
	if err != nil {
		return err
	}
	const asked = `{"phase":%q,"cell":"c1","step":"preflight","does":"nothing against the move","asked":true}`
	switch {
	case slices.Contains(unlucky, t.Slug):
		r.Report = fmt.Appendf(nil, `{"steps":[`+asked+`],"findings":[{"cell":"c2","code":"no-primary-key","table":"app.x","why":"it has no key","fix":"add one"}],`+
			`"rows":0,"size_bytes":0,"whole":true,"reaches":"aborted","error":"preflight: no-primary-key: app.x: it has no key (fix: add one)"}`, "aborting")
	case t.Slug == "lost":
		r.Report = []byte(`{"steps":[],"findings":[],"rows":0,"size_bytes":0,"whole":true,"reaches":"planned","error":"preflight of c2: cell c2 does not answer"}`)
	default:
		r.Report = fmt.Appendf(nil, `{"steps":[`+asked+`,{"phase":"reserved","cell":"c2","step":"reserve","does":"await the tenant at epoch 2","asked":false}],`+
			`"findings":[],"rows":120,"size_bytes":20000000,"at_least":%t,"whole":true,"reaches":"watching"}`, "reserved", t.Slug == "large")
	}
	return d.EndRehearsal(ctx, r)
}

// A worker does what movers say, and nothing of what they do.
type worker struct {
	directory.Directory
	unlucky []string // tenants whose moves are aborted
}

func (w worker) run(ctx context.Context, tb testing.TB) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m, err := w.LeaseMove(ctx, "", "mover-1", time.Minute)
		if err != nil {
			continue // there is nothing to do
		}
		if err := w.finish(ctx, m); err != nil && ctx.Err() == nil {
			tb.Errorf("work on move %s in %s: %v", m.ID, m.Phase, err)
		}
	}
}

// finish takes a move as far as it goes without its operator.
func (w worker) finish(ctx context.Context, m directory.Move) error {
	t, err := w.Tenant(ctx, m.Tenant.String())
	if err != nil {
		return err
	}
	for !m.Waits(time.Now()) && !m.Phase.Ended() {
		if t.Slug == "kept" && m.Phase == directory.Watching {
			break
		}
		if m.Phase == directory.Watching && m.Wish != directory.Complete {
			differ := `[]`
			if t.Slug == "broken" || strings.HasPrefix(t.Slug, "torn") {
				differ = `["projects.task"]`
				m.StopAt = directory.Watching
			} else if m.WatchOver(time.Now()) {
				m.Wish = directory.Complete
			}
			now, _ := time.Now().MarshalText() // a time of today can be written
			m.Report = fmt.Appendf(nil, `{"compared_at":%q,"comparison":{"tables":9,"rows":120,"differ":%s}}`, now, differ)
			if err := w.Advance(ctx, m, m.Phase); err != nil {
				return err
			}
			if m, err = w.Move(ctx, m.ID); err != nil {
				return err
			}
			continue
		}
		if t.Slug == "lost" && m.Phase == directory.Planned && m.Wish != directory.Cancel {
			m.Error = "preflight of c2: cell c2 does not answer"
			if err := w.Advance(ctx, m, m.Phase); err != nil {
				return err
			}
			break
		}
		next := way[slices.Index(way, m.Phase)+1:]
		switch {
		case m.Phase == directory.Aborting:
			next = []directory.Phase{directory.Aborted}
		case m.Phase.BeforeDecision() && (m.Wish == directory.Cancel || m.Phase == directory.CaughtUp && slices.Contains(w.unlucky, t.Slug)):
			next, m.Error = []directory.Phase{directory.Aborting}, "the cells' schemas differ"
		}
		from := m.Phase
		m.Phase = next[0]
		m.Report = fmt.Appendf(nil, `{"size_bytes":2000000,"rows":120,"keys":7,"bytes":2000000,"rounds":2,"last_round_ns":4000000,"pause_ns":12000000}`)
		err := w.Advance(ctx, m, from)
		if directory.TurnedAway(err) {
			m.Phase, m.Error = directory.Aborting, err.Error()
			err = w.Advance(ctx, m, from)
		}
		if err != nil {
			return err
		}
		if m, err = w.Move(ctx, m.ID); err != nil {
			return err
		}
	}
	_, err = w.LeaseMove(ctx, m.ID, "mover-1", 0)
	return err
}

// newest sets $MOVE to the id of the move that was made last.
func newest(ts *testscript.TestScript, _ bool, _ []string) {
	d, err := client.New(client.Options{URL: ts.Getenv("CELLCTL_ADDR"), Token: ts.Getenv("CELLCTL_TOKEN")})
	ts.Check(err)
	moves, err := d.ListMoves(ts.Value(scriptKey{}).(script).tb.Context(), 0, true, "", 1)
	ts.Check(err)
	if len(moves) == 0 {
		ts.Fatalf("there is no move")
	}
	ts.Setenv("MOVE", string(moves[0].ID))
}

// until TEXT COMMAND... runs a command again and again until it prints TEXT.
func until(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		select {
		case <-late:
			ts.Fatalf("%q does not come", args[0])
		case <-tick.C:
		}
	}
}

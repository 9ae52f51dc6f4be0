package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// compared is what the mover reports of a comparison.
type compared struct {
	Tables int      `json:"tables"`
	Rows   int64    `json:"rows"`
	Differ []string `json:"differ"`
	Left   []string `json:"left"` // not compared: too many rows have changed
	Failed string   `json:"failed"`
}

// errNotCompared is what an operator hears whose wish something else overtook.
func errNotCompared(m directory.Move) error {
	return problem.New(problem.Conflict, "move %s is %s: its copies were not compared", m.ID, m.Phase)
}

func (a *app) moveVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify MOVE", Short: "Compare both copies of a tenant while the way back is open", Args: names("MOVE"),
		Long: `Lets a mover hash both copies of a tenant whose move watches: all rows that were not
changed since the switch. They must be the same; rows that differ were damaged on
one side, and nobody wrote them. The exit code is 4 if they differ. Nothing is
changed, and the tenant goes on working. Ctrl-C ends the waiting, not the comparison.`,
		Example: "  cellctl move verify mv_01k9",
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			m, err := d.AskMove(ctx, directory.MoveID(args[0]), directory.Verify)
			if err != nil {
				return moveHint(err, args[0])
			}
			before := reported(m).Compared
			if m, err = a.awaitVerified(ctx, d, m); err != nil {
				return err
			}
			if reported(m).Compared.Equal(before) {
				return errNotCompared(m)
			}
			return a.sayVerified(m)
		}),
	}
}

// awaitVerified waits until a mover has reported what somebody wanted to know.
func (a *app) awaitVerified(ctx context.Context, d api, m directory.Move) (directory.Move, error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	silence, said := outage{}, a.now()
	for m.Wish == directory.Verify && m.Phase == directory.Watching {
		select {
		case <-ctx.Done():
			a.note("the comparison goes on: cellctl move status %s", m.ID)
			return m, ctx.Err()
		case <-tick.C:
		}
		now, err := findMove(ctx, d, string(m.ID))
		switch {
		case err == nil:
			m, silence = now, outage{}
		case silence.bear(ctx, a, err) != nil:
			a.note("the comparison goes on: cellctl move status %s", m.ID)
			return m, err
		}
		if now := a.now(); now.Sub(said) >= noteEvery {
			said = now
			a.note("waiting for a mover to compare both copies; %s", compares(ctx, d, m))
		}
	}
	return m, nil
}

// compares says who compares, or which cell the mover waits for.
func compares(ctx context.Context, d api, m directory.Move) string {
	for _, id := range []directory.CellID{m.Source, m.Target} {
		if c, err := d.Cell(ctx, id); err == nil && !c.Healthy {
			return "cell " + string(id) + " is not healthy (cellctl cell get " + string(id) + ")"
		}
	}
	return "it is " + orNobody(m.Holder)
}

func orNobody(mover string) string {
	if mover == "" {
		return "nobody's yet"
	}
	return mover
}

func (a *app) sayVerified(m directory.Move) error {
	c := reported(m).Comparison
	if err := moveView.one(a, m, nextSteps(m, a.now())...); err != nil {
		return err
	}
	switch {
	case c.Failed != "":
		return problem.New(problem.Conflict, "the copies could not be compared: %s", oneLine(c.Failed))
	case len(c.Differ) > 0:
		return hinted{
			problem.New(problem.Conflict, "the copies differ in %s", strings.Join(c.Differ, ", ")),
			"find out which side is damaged before you undo or complete the move",
		}
	}
	if len(c.Left) > 0 {
		a.note("not compared, for too many of their rows have changed: %s", strings.Join(c.Left, ", "))
	}
	a.note("both copies are the same: %s rows of %d tables, unchanged since the switch", number(c.Rows), c.Tables)
	return nil
}

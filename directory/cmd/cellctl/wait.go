package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

const waitHelp = `Waits until a cell, tenant or move is as --for says: for --timeout, with exit code 6
where that was not enough, 3 where there is still no such thing, and 7 where the directory
does not answer in the end. What can no longer come is a conflict, 4.

  cell/NAME     healthy (heard of), ready (and takes tenants), or another state of cells
  tenant/NAME   active or suspended, or cell=NAME: active there
  move/ID       a phase, which counts also once it is passed, or ended: whatever has become
                of it. One that is aborted and tried again goes on as the move that tries it`

// lookFor is how long one question may take of all the time there is: the directory may have
// other processes, which answer.
const lookFor = 5 * time.Second

// onward is a move's way, phase by phase, to its good end.
var onward = []directory.Phase{
	directory.Planned, directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen,
	directory.Staged, directory.Decided, directory.Activated, directory.Watching, directory.Completed,
}

// A goal is whether what is waited for has come, and what there is instead. show prints the thing.
type goal struct {
	met  bool
	is   string
	show func() error
}

// states are what --for may say of each kind.
var states = map[string][]string{
	"cell": {
		"healthy", string(directory.Ready), string(directory.Cordoned), string(directory.Draining), string(directory.Drained),
		string(directory.Quarantine), string(directory.Retired),
	},
	"tenant": {string(directory.Active), string(directory.Suspended), "cell=NAME"},
	"move": {
		"ended", string(directory.Reserved), string(directory.Armed), string(directory.Copied), string(directory.CaughtUp),
		string(directory.Watching), string(directory.Completed), string(directory.Aborted), string(directory.Undone),
	},
}

func (a *app) waitCommand() *cobra.Command {
	var want string
	cmd := &cobra.Command{
		Use: "wait KIND/NAME --for STATE", Short: "Wait until a cell, tenant or move is as it is to be", Args: names("KIND/NAME"), Long: waitHelp,
		Example: "  cellctl wait cell/c4 --for ready --timeout 60s\n  cellctl wait tenant/acme --for cell=c2 --timeout 10m\n  cellctl wait move/mv_1 --for ended --timeout 1h",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "for") },
	}
	cmd.RunE = a.asks(func(ctx context.Context, d api, args []string) error {
		kind, name, _ := strings.Cut(args[0], "/")
		known, ok := states[kind]
		if !ok || name == "" {
			return usage("such as cell/c4: "+strings.Join(slices.Sorted(maps.Keys(states)), ", "), "%q is no KIND/NAME", args[0])
		}
		if at, named := strings.CutPrefix(want, "cell="); !slices.Contains(known, want) && (kind != "tenant" || !named || at == "") || want == "cell=NAME" {
			return usage("one of "+strings.Join(known, ", "), "cannot wait for a %s to be %q", kind, want)
		}
		return a.await(ctx, args[0], want, func(ctx context.Context) (goal, error) {
			switch kind {
			case "cell":
				return cellGoal(ctx, a, d, name, want)
			case "tenant":
				return tenantGoal(ctx, a, d, name, want)
			}
			return moveGoal(ctx, a, d, name, want)
		})
	})
	cmd.Flags().StringVar(&want, "for", "", "what it is to be")
	return cmd
}

// await asks look until its goal is met, --timeout is over, or nothing will change its answer.
func (a *app) await(ctx context.Context, what, want string, look func(context.Context) (goal, error)) error {
	within, cancel := context.WithTimeout(ctx, a.flags.timeout)
	defer cancel()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	silent := problem.New(problem.Unavailable, "the directory does not answer")
	is, last := "", error(silent)
	for {
		asking, answered := context.WithTimeout(within, lookFor)
		g, err := look(asking)
		late := asking.Err() != nil
		answered()
		switch kind := problem.KindOf(err); {
		case err == nil && g.met:
			return g.show()
		case err == nil:
			is, last = g.is, nil
		case within.Err() != nil: // it was cut: the answer before counts, which is no older than lookFor
		case late:
			last = silent
		case errors.Is(err, problem.NotFound), errors.Is(err, problem.TenantNotFound), kind == problem.Unavailable, kind == problem.Timeout:
			last = err
		default:
			return err
		}
		select {
		case <-within.Done():
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case last != nil:
				return last
			}
			return hinted{problem.New(problem.Timeout, "%s is %s and not %s after %s", what, is, want, a.flags.timeout), "give it more --timeout"}
		case <-tick.C:
		}
	}
}

func cellGoal(ctx context.Context, a *app, d api, name, want string) (goal, error) {
	c, err := d.Cell(ctx, directory.CellID(name))
	g := goal{met: string(c.State) == want, is: string(c.State), show: func() error { return cellView.one(a, c) }}
	switch {
	case want == "healthy":
		g.met = c.Healthy
	case err == nil && c.State == directory.Retired && !g.met:
		return g, problem.New(problem.Conflict, "cell %s is %s, for good", c.ID, c.State)
	case want == string(directory.Ready):
		g.met = g.met && c.Healthy
	}
	if !c.Healthy {
		g.is += " (not heard of)"
	}
	return g, err
}

func tenantGoal(ctx context.Context, a *app, d api, name, want string) (goal, error) {
	t, err := d.Tenant(ctx, name)
	p := t.Placement
	g := goal{met: string(p.State) == want, is: string(p.State) + " at " + string(p.Cell), show: func() error { return tenantView.one(a, t) }}
	if cell, ok := strings.CutPrefix(want, "cell="); ok {
		g.met = string(p.Cell) == cell && p.State == directory.Active
	}
	if err == nil && p.State == directory.Deleted {
		return g, problem.New(problem.Conflict, "tenant %s is %s, for good", name, p.State)
	}
	return g, err
}

func moveGoal(ctx context.Context, a *app, d api, name, want string) (goal, error) {
	m, err := d.Move(ctx, directory.MoveID(name))
	for err == nil && m.Phase == directory.Aborted && m.RetriedBy != "" && want != string(directory.Aborted) {
		m, err = d.Move(ctx, m.RetriedBy)
	}
	to := slices.Index(onward, directory.Phase(want))
	met := string(m.Phase) == want || want == "ended" && m.Phase.Ended() || to >= 0 && slices.Index(onward, m.Phase) >= to
	g := goal{met: met, is: string(m.Phase), show: func() error {
		return moveView.one(a, m, nextSteps(m, a.now())...)
	}}
	switch {
	case err != nil || g.met:
	case m.Phase.Ended():
		return g, problem.New(problem.Conflict, "move %s is %s, for good", m.ID, m.Phase)
	case want == string(directory.Aborted) && !m.Phase.BeforeDecision() && m.Phase != directory.Aborting:
		return g, problem.New(problem.Conflict, "move %s is %s, and is not aborted any more", m.ID, m.Phase)
	}
	return g, err
}

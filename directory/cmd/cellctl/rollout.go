package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var rolloutView = view[directory.Rollout]{
	kind: "Rollout",
	name: func(r directory.Rollout) string { return "rollout/" + string(r.ID) },
	columns: []column[directory.Rollout]{
		{title: "id", text: func(r directory.Rollout, _ clock) string { return string(r.ID) }},
		{title: "state", text: func(r directory.Rollout, _ clock) string { return string(r.State) }},
		{title: "wave", text: func(r directory.Rollout, _ clock) string { return string(r.Wave) }},
		{title: "routers", text: func(r directory.Rollout, _ clock) string { return strconv.Itoa(len(r.Routers)) }},
		{title: "failed", text: func(r directory.Rollout, _ clock) string { return tallied(r.Tallies, true) }},
		{title: "others", text: func(r directory.Rollout, _ clock) string { return tallied(r.Tallies, false) }},
		{title: "age", text: func(r directory.Rollout, now clock) string { return age(now, r.Created) }},
		{title: "by", wide: true, text: func(r directory.Rollout, _ clock) string { return r.By }},
		{title: "why", text: func(r directory.Rollout, _ clock) string { return r.Why }},
		dated("created", func(r directory.Rollout) time.Time { return r.Created }),
	},
}

// tallied is how the requests of the wave, or of the others, have ended; "" unless
// the roll-out is running.
func tallied(t *directory.Tallies, wave bool) string {
	if t == nil {
		return ""
	}
	side := t.Rest
	if wave {
		side = t.Wave
	}
	return fmt.Sprintf("%d/%d", side.Failed, side.Requests)
}

// A changeRow is one change with what it changes.
type changeRow struct{ subject, before, after string }

var changeView = view[changeRow]{
	kind: "Change",
	name: func(c changeRow) string { return c.subject },
	columns: []column[changeRow]{
		{title: "subject", text: func(c changeRow, _ clock) string { return c.subject }},
		{title: "before", text: func(c changeRow, _ clock) string { return c.before }},
		{title: "after", text: func(c changeRow, _ clock) string { return c.after }},
	},
}

// said is what a change says, for a person.
func said(c directory.RolloutChange) string {
	var parts []string
	if c.Address != "" {
		parts = append(parts, c.Address)
	}
	if c.Suspended != nil {
		parts = append(parts, map[bool]string{true: "suspended", false: "active"}[*c.Suspended])
	}
	if c.Hosts != nil {
		parts = append(parts, "hosts="+strings.Join(*c.Hosts, ","))
	}
	return strings.Join(parts, " ")
}

// showChanges shows the changes of r as a table, or not where a document will have them.
func (a *app) showChanges(r directory.Rollout) {
	if changeView.isDocument(a) || a.flags.output == "name" || a.flags.output == "csv" {
		return
	}
	var rows []changeRow
	for i, c := range r.Changes {
		before := r.Before[i] // which says more of a tenant than is changed
		if c.Suspended == nil {
			before.Suspended = nil
		}
		if c.Hosts == nil {
			before.Hosts = nil
		}
		rows = append(rows, changeRow{c.Subject(), said(before), said(c)})
	}
	changeView.rows(a, rows)
}

// showRollout shows r, and what usually comes next.
func (a *app) showRollout(r directory.Rollout) error {
	var next []string
	switch r.State {
	case directory.RolloutRunning:
		next = []string{"cellctl rollout status " + string(r.ID) + " --wait", "cellctl rollout halt " + string(r.ID)}
	case directory.RolloutHalted:
		next = []string{"cellctl rollout resume " + string(r.ID), "cellctl rollout abort " + string(r.ID)}
	}
	if r.Reason != "" && !rolloutView.isDocument(a) {
		a.note("%s: %s", r.State, r.Reason)
	}
	return rolloutView.one(a, r, next...)
}

func (a *app) rolloutCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the newest roll-outs", Args: names(),
		RunE: a.asks(func(ctx context.Context, d api, _ []string) error {
			const most = 100
			all, err := d.ListRollouts(ctx, most+1)
			if err != nil {
				return err
			}
			more := len(all) > most
			if more {
				a.note("there are more than %d", most)
			}
			return rolloutView.list(a, all[:min(len(all), most)], map[string]bool{"more": more})
		}),
	}
	cmd := &cobra.Command{
		Use: "rollout", Aliases: []string{"rollouts"}, Short: "Roll-outs: changes of many routes, one router first",
		Long: "A roll-out brings changes of many routes to one router, then to a tenth, then to\nall, and to the record last. It halts by itself where the routers that have it\nfare worse than the others; all of them then serve the record again.",
	}
	return group(cmd, a.rolloutCreate(), list, a.rolloutStatus(),
		a.rolloutAsk(directory.Halt, "Take the changes from the routers; the roll-out may be resumed"),
		a.rolloutAsk(directory.Resume, "Open the wave that was halted once more"),
		a.rolloutAsk(directory.Abort, "Take the changes from the routers and give the roll-out up"))
}

func (a *app) rolloutCreate() *cobra.Command {
	var file, why string
	var soak time.Duration
	var requests int64
	var margin float64
	var yes bool
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use: "create -f FILE --why TEXT", Short: "Show what a roll-out changes; with --yes begin it", Args: names(),
		Long:    "FILE (- is standard input) is YAML or JSON with a list of changes: a cell's address, a tenant's\nhosts (the whole new set), or whether it is suspended:\n\n  changes:\n  - {cell: c1, address: \"http://10.0.7.1:7101\"}\n  - {tenant: acme, hosts: [www.acme.com]}\n  - {tenant: bolt, suspended: true}",
		Example: "  cellctl rollout create -f new-network.yaml --why 'new network'\n  cellctl rollout create -f new-network.yaml --why 'new network' --soak 5m --yes",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return required(cmd, "file", "why") },
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			changes, err := a.readChanges(ctx, d, file)
			if err != nil {
				return err
			}
			n := directory.NewRollout{Changes: changes, Why: why, Soak: soak, Requests: &requests, Margin: &margin, DryRun: true}
			r, err := d.CreateRollout(ctx, n)
			if err != nil {
				return err
			}
			a.showChanges(r)
			if !yes {
				return rolloutView.one(a, r, again(cmd, args)+" --yes")
			}
			n.DryRun = false
			if r, err = d.CreateRollout(ctx, n); err != nil {
				return withHint(err, problem.Conflict, "cellctl rollout list shows which one is open")
			}
			return a.showRollout(r)
		}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file with the changes")
	cmd.Flags().StringVar(&why, "why", "", "what it is for")
	cmd.Flags().DurationVar(&soak, "soak", time.Minute, "how long each wave lasts at least")
	cmd.Flags().Int64Var(&requests, "requests", 100, "how many requests a wave must have answered; 0 goes by time alone")
	cmd.Flags().Float64Var(&margin, "margin", 0.02, "by which the wave's share of failed requests may exceed the others'; 1 judges nothing")
	addYes(cmd, &yes)
	return cmd
}

func (a *app) rolloutStatus() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "status ID", Short: "Show a roll-out and how its wave fares", Args: names("ID"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			r, err := d.Rollout(ctx, directory.RolloutID(args[0]))
			if err != nil {
				return withHint(err, problem.NotFound, "cellctl rollout list shows them")
			}
			if wait {
				if r, err = a.awaitRollout(ctx, d, r); err != nil {
					return err
				}
			}
			a.showChanges(r)
			if err := a.showRollout(r); err != nil || !wait || r.State == directory.RolloutDone {
				return err
			}
			return problem.New(problem.Conflict, "roll-out %s is %s", r.ID, r.State)
		}),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "until it is done, halted or aborted; exit code 4 unless it is done")
	return cmd
}

// awaitRollout waits until r does not go on any more. It says when a wave opens.
func (a *app) awaitRollout(ctx context.Context, d api, r directory.Rollout) (directory.Rollout, error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	silence, round := outage{}, 0
	for r.State == directory.RolloutRunning {
		if r.Round != round {
			round = r.Round
			a.note("wave %s: %d routers", r.Wave, len(r.Routers))
		}
		select {
		case <-ctx.Done():
			a.note("the roll-out goes on by itself: cellctl rollout status %s --wait", r.ID)
			return r, ctx.Err()
		case <-tick.C:
		}
		now, err := d.Rollout(ctx, r.ID)
		switch {
		case err == nil:
			r, silence = now, outage{}
		case silence.bear(ctx, a, err) != nil:
			a.note("the roll-out goes on by itself: cellctl rollout status %s --wait", r.ID)
			return r, err
		}
	}
	return r, nil
}

func (a *app) rolloutAsk(wish directory.RolloutWish, short string) *cobra.Command {
	return &cobra.Command{
		Use: string(wish) + " ID", Short: short, Args: names("ID"),
		RunE: a.asks(func(ctx context.Context, d api, args []string) error {
			r, err := d.AskRollout(ctx, directory.RolloutID(args[0]), wish)
			if err != nil {
				return withHint(err, problem.NotFound, "cellctl rollout list shows them")
			}
			return a.showRollout(r)
		}),
	}
}

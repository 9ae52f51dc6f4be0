package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/loadtest/chaos"
)

func chaosCommand() *cobra.Command {
	o, out, plan := chaos.Options{Progress: os.Stderr}, output("table"), 0
	cmd := &cobra.Command{
		Use: "chaos", Short: "Move tenants back and forth while every part is being killed", Args: cobra.NoArgs,
		Long: `Starts a whole stack and moves tenants that work all the time between its cells,
with undo, complete and cancel. Meanwhile it kills movers, routers, cells, the
directory, every Postgres and Redis with SIGKILL, suspends movers until their lease
is gone, breaks single statements or only their answers, and lets a neighbour
commit very many rows. After each round it checks what must never be.

Without --kills every kind of fault is aimed once; the report says which missed. The faults follow from the seed;
when exactly they meet a move does not.

Progress goes to stderr, the result to stdout. The exit code is 1 if anything
broke; the data and the logs are kept then.`,
		Example: "  loadtest chaos\n  loadtest chaos --seed 7 --kills 1000 --flood 1000000 -o json\n  loadtest chaos --seed 7 --plan 3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan > 0 {
				return printJSON(chaos.Plan(o, plan))
			}
			report, err := chaos.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := out.print(report); err != nil {
				return err
			}
			if !report.OK {
				return fmt.Errorf("%d violations; data and logs are in %s; again: loadtest chaos --seed %d", len(report.Violations), report.Data, report.Seed)
			}
			return nil
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.Uint64Var(&o.Seed, "seed", 1, "the plan of the faults follows from it")
	f.IntVar(&o.Kills, "kills", 0, "go on until so many processes were killed; 0: until every kind of fault was aimed once")
	f.DurationVar(&o.For, "for", 0, "begin no round after so long; 0 sets no bound")
	f.IntVar(&o.Cells, "cells", 2, "cells to move between")
	f.IntVar(&o.Tenants, "tenants", 3, "tenants that move at the same time")
	f.IntVar(&o.Faults, "faults", 4, "faults of a round; more of them kill faster and meet fewer quiet moments")
	f.IntVar(&o.Flood, "flood", 50_000, "rows that the busy neighbour commits in one transaction")
	f.StringVar(&o.Dir, "data", "", "directory for data and logs (default: a fresh one, removed unless something broke)")
	f.BoolVar(&o.Keep, "keep", false, "leave the directory in any case")
	f.IntVar(&plan, "plan", 0, "print the plan of so many rounds and do nothing")
	return cmd
}

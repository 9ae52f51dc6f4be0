package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/loadtest/benchmove"
)

func benchMoveCommand() *cobra.Command {
	o, out := benchmove.Options{Progress: os.Stderr}, output("table")
	cmd := &cobra.Command{
		Use: "bench-move", Short: "Measure the live move of a tenant, beside what one would do without it", Args: cobra.NoArgs,
		Long: `Moves tenants between two cells of real processes while their clients write, and
measures what the clients see; then the same with what one would do without it, in
turns. It prints each figure with its goal and with how it was measured, and writes
them between the markers of docs/BENCHMARKS.md.

A full run takes about ten minutes and wants a machine that does nothing else; it
says so where the machine does.`,
		Example: "  loadtest bench-move\n  loadtest bench-move --quick\n  loadtest bench-move --only pause --moves 1000 -o json\n  loadtest bench-move --only drain --tenants 1000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := benchmove.Run(cmd.Context(), o)
			if report == nil {
				return err
			}
			return errors.Join(out.print(report), err)
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.StringSliceVar(&o.Only, "only", nil, "measure only these: "+strings.Join(benchmove.Names(), ", "))
	f.BoolVar(&o.Quick, "quick", false, "a minute or two, to see that it works")
	f.IntVar(&o.Rounds, "rounds", 0, "interleaved rounds of what is compared (default 3)")
	f.IntVar(&o.Moves, "moves", 0, "moves whose pause is measured (default 200)")
	f.IntVar(&o.Rate, "rate", 0, "writes per second on a tenant that moves (default 250)")
	f.IntVar(&o.Rows, "rows", 0, "rows of the tenant that the rivals move (default 100000)")
	f.IntVar(&o.Others, "others", 0, "rows of the other tenants in its database (default 200000)")
	f.IntVar(&o.Tenants, "tenants", 0, "tenants of the cell that is drained (default 200)")
	f.IntVar(&o.Bytes, "bytes", 0, "bytes of each of them (default 1048576)")
	f.IntVar(&o.Changed, "changed", 0, "rows that an undo has to take back (default 100000)")
	f.StringVar(&o.Source, "source", ".", "the source tree")
	f.StringVar(&o.Dir, "data", "", "where the data goes, on a disk (default: the system's directory for temporary files)")
	f.StringArrayVar(&o.Env, "env", nil, "a setting of the product's processes that is not the default (MOVER_PARALLEL=8)")
	f.BoolVar(&o.Write, "write", true, "write the result into docs/BENCHMARKS.md, where all figures were measured and --quick is off")
	return cmd
}

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/loadtest/blast"
)

func blastCommand() *cobra.Command {
	o, out := blast.Options{Progress: os.Stderr}, output("table")
	cmd := &cobra.Command{
		Use: "blast", Short: "Break one cell of eight and measure what the others notice", Args: cobra.NoArgs,
		Long: `Starts a router and eight light cells as processes and puts load on all of them. Then
one cell is killed, stopped, slow, answers garbage, resets in the middle of bodies, or
answers 1xx without end; each fault comes and goes several times, and the other seven are
compared with the moment before it. Then that cell is asked for 2, 5 and 10 times what it
can do, and at last it is killed and comes back with 50,000 clients at once. One line
for each; the exit code is 1 if a goal was missed.

The router is the product's default; ROUTER_ variables change it. A full run takes about
six minutes.`,
		Example: "  loadtest blast\n  loadtest blast --quick\n  loadtest blast --only killed,herd\n  ROUTER_ENGINE=std loadtest blast -o json | jq '.lines[] | {fault, errors, p99_ratio}'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := blast.Check(o.Only); err != nil {
				return usage(cmd, err)
			}
			report, err := blast.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := out.print(report); err != nil {
				return err
			}
			if missed := report.Missed(); len(missed) > 0 {
				return fmt.Errorf("missed: %s", strings.Join(missed, "; "))
			}
			return nil
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.StringSliceVar(&o.Only, "only", nil, "measure only these, at the rate of a full run: "+strings.Join(blast.Faults(), ", "))
	f.IntVar(&o.Requests, "requests", 0, "requests to each of the other cells while one is broken (default 100000)")
	f.IntVar(&o.Rounds, "rounds", 0, "times that each fault comes and goes; the median counts (default 9)")
	f.DurationVar(&o.Window, "window", 0, "of each round, before and during the fault (default 3s)")
	f.IntVar(&o.Herd, "herd", 0, "clients that come back at once, as far as open files allow (default 50000)")
	f.BoolVar(&o.Quick, "quick", false, "three rounds and a tenth of the requests, to see that it works")
	f.StringVar(&o.Source, "source", ".", "the source tree, whose version is named")
	return cmd
}

// blastPart is one cell of it: nothing for people.
func blastPart() *cobra.Command {
	return &cobra.Command{Use: blast.Part, Hidden: true, RunE: func(cmd *cobra.Command, args []string) error {
		return blast.RunPart(cmd.Context(), args)
	}}
}

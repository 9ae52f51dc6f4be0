// Command loadtest puts a whole stack to the test on this machine: "demo" shows
// that the promises hold, "bench", "bench-move" and "peers" measure the figures of
// docs/BENCHMARKS.md, "chaos" moves tenants while every part is killed, "blast" breaks
// one cell and looks at the others.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/loadtest/bench"
	"github.com/cellway/cellway/loadtest/demo"
)

func main() {
	run.Main("loadtest", func(ctx context.Context) error {
		err := root().ExecuteContext(ctx)
		if err != nil && ctx.Err() != nil {
			return &run.Exit{Code: interrupted, Err: errors.New("interrupted: everything was stopped")}
		}
		return err
	})
}

// Exit codes: after Ctrl-C, as shells have it, and for a command line that is wrong.
const (
	interrupted = 130
	usageCode   = 2
)

// usage is an error of the command line.
func usage(cmd *cobra.Command, err error) error {
	return &run.Exit{Code: usageCode, Err: fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "loadtest", Short: "Put a whole Cellway stack to the test on this machine",
		SilenceUsage: true, SilenceErrors: true, Version: run.Version,
	}
	cmd.SetFlagErrorFunc(usage)
	cmd.AddCommand(demoCommand(), benchCommand(), benchMoveCommand(), peersCommand(), peersPart(), chaosCommand(), blastCommand(), blastPart())
	return cmd
}

// output is the value of -o.
type output string

// String, Set and Type make output a flag.
func (o *output) String() string { return string(*o) }

// Set takes table or json.
func (o *output) Set(s string) error {
	if s != "table" && s != "json" {
		return errors.New("must be table or json")
	}
	*o = output(s)
	return nil
}

// Type is shown in the help.
func (*output) Type() string { return "table|json" }

// print shows a report in the form that was asked for.
func (o output) print(report interface{ WriteTable(w io.Writer) error }) error {
	if o == "json" {
		return printJSON(report)
	}
	return report.WriteTable(os.Stdout)
}

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// flags are a command's, with those that all have.
func flags(cmd *cobra.Command, out *output, binDir *string) *pflag.FlagSet {
	f := cmd.Flags()
	f.VarP(out, "output", "o", "how to print the result")
	f.StringVar(binDir, "bin-dir", "", "where the product's binaries are (default: beside this one)")
	return f
}

func demoCommand() *cobra.Command {
	o, out := demo.Options{Progress: os.Stderr}, output("table")
	cmd := &cobra.Command{
		Use: "demo", Short: "Start the product, put it to work, break it, and print what held", Args: cobra.NoArgs,
		Long: `Starts a directory, cells and routers as real processes, signs tenants up over the
public API and lets them work through the one endpoint. While they do, it kills a
cell and its Postgres with kill -9 and restarts them, adds a cell without touching
a router, moves a tenant and takes it back, drains a cell, and changes routes. Then it checks every acknowledged write and event.

Progress goes to stderr, the result to stdout. The exit code is 0 only if every
promise held.`,
		Example: "  loadtest demo\n  loadtest demo --seed 7 -o json | jq .promises\n  loadtest demo --keep --data /tmp/demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := demo.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := out.print(report); err != nil {
				return err
			}
			if !report.OK {
				return fmt.Errorf("broken promise: %s", strings.Join(report.Broken(), "; "))
			}
			return nil
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.IntVar(&o.Cells, "cells", 3, "cells to start with; one more is added")
	f.IntVar(&o.Routers, "routers", 2, "routers behind the one endpoint")
	f.IntVar(&o.Tenants, "tenants", 12, "tenants that work")
	f.IntVar(&o.Changes, "changes", 50, "route changes to measure")
	f.Uint64Var(&o.Seed, "seed", 1, "what the tenants do follows from it")
	f.StringVar(&o.Dir, "data", "", "directory for data and logs (default: a fresh one, removed at the end)")
	f.BoolVar(&o.Keep, "keep", false, "leave the directory")
	return cmd
}

func benchCommand() *cobra.Command {
	o, out := bench.Options{Progress: os.Stderr}, output("table")
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure the figures of docs/BENCHMARKS.md", Args: cobra.NoArgs,
		Long: `Measures each figure on this machine, prints it with how it was measured, and
writes the table between the markers of docs/BENCHMARKS.md. It needs the source
tree and the go command, for the benchmarks that are Go tests.`,
		Example: "  loadtest bench\n  loadtest bench --only claims,outbox -o json --write=false",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := bench.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return out.print(report)
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.StringSliceVar(&o.Only, "only", nil, "measure only these: "+strings.Join(bench.Names(), ", "))
	f.IntVar(&o.Rounds, "rounds", 3, "interleaved rounds of each figure; the median counts")
	f.StringVar(&o.Source, "source", ".", "the source tree")
	f.BoolVar(&o.Write, "write", true, "write the result into docs/BENCHMARKS.md")
	return cmd
}

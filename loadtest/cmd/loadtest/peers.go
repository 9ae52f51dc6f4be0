package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cellway/cellway/loadtest/figure"
	"github.com/cellway/cellway/loadtest/peers"
)

func peersCommand() *cobra.Command {
	o, out, from := peers.Options{Progress: os.Stderr}, output("table"), ""
	cmd := &cobra.Command{
		Use: "peers", Aliases: []string{"bench-peers"}, Short: "Measure the router beside nginx, HAProxy, Caddy, Traefik and ReverseProxy", Args: cobra.NoArgs,
		Long: `Runs our router with each of its engines and its peers against the same tiny origin
with the same 100,000 tenants and the same load, in rounds that take turns: proxies on
core 0, origin and load on core 1, then a part again with nothing pinned. Latency is
counted from when a request was to be sent. It prints each figure with its goal and
writes them between the markers of docs/BENCHMARKS.md, and as JSON and as a plot beside
it. With --from, table and plot are made anew of that JSON and nothing is measured.

A full run takes about three quarters of an hour and wants a machine that does nothing
else. What is not installed, cannot be built or has no TLS is left out, and the report
says so; a run that origin or load limited is refused.`,
		Example: "  loadtest peers\n  loadtest peers --quick\n  loadtest peers --only P1-cpu,P3-latency --peers cellway-h1,nginx -o json\n  loadtest peers --from docs/bench-peers.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := measureOrDraw(cmd, o, from)
			if err != nil {
				return err
			}
			return out.print(report)
		},
	}
	f := flags(cmd, &out, &o.BinDir)
	f.StringVar(&from, "from", "", "measure nothing: draw table and plot anew from a whole run's JSON")
	f.StringSliceVar(&o.Only, "only", nil, "measure only these: "+strings.Join(peers.Names(), ", "))
	f.StringSliceVar(&o.Peers, "peers", nil, "measure only these proxies: cellway-ENGINE, nginx, haproxy, caddy, traefik, reverseproxy, floor")
	f.BoolVar(&o.Quick, "quick", false, "two short rounds, to see that it works")
	f.IntVar(&o.Rounds, "rounds", 0, "interleaved rounds (default 7)")
	f.DurationVar(&o.For, "for", 0, "how long each load lasts (default 3s)")
	f.IntVar(&o.Rate, "rate", 0, "requests a second where cost is measured (default 10000)")
	f.IntVar(&o.Conns, "conns", 0, "keep-alive connections (default 64)")
	f.IntVar(&o.Idle, "idle", 0, "connections whose memory is measured (default 5000)")
	f.IntVar(&o.Tenants, "tenants", 0, "tenants in the map (default 100000)")
	f.BoolVar(&o.Unpinned, "unpinned", true, "measure a part again with nothing pinned")
	f.BoolVar(&o.Build, "build", true, "build Caddy and Traefik where they are not built")
	f.StringVar(&o.Source, "source", ".", "the source tree")
	f.BoolVar(&o.Write, "write", true, "write the result into docs/, where all figures and proxies were measured and --quick is off")
	return cmd
}

// measureOrDraw is a run, or with --from what one has measured.
func measureOrDraw(cmd *cobra.Command, o peers.Options, from string) (*figure.Report, error) {
	if !cmd.Flags().Changed("from") {
		return peers.Run(cmd.Context(), o)
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"from", "output", "source", "write"}, f.Name) {
			err = usage(cmd, fmt.Errorf("--from measures nothing: --%s cannot go with it", f.Name))
		}
	})
	if err != nil {
		return nil, err
	}
	return peers.Draw(o.Source, from, o.Write)
}

// peersPart is one process of that benchmark: nothing for people.
func peersPart() *cobra.Command {
	return &cobra.Command{
		Use: peers.Part, Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return peers.RunPart(cmd.Context(), args, os.Stdin, os.Stdout)
		},
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/stack"
)

const (
	usualPort = 8080
	// stopTimeout bounds an orderly stop; what takes longer is killed.
	stopTimeout = 2 * time.Minute
)

func upCommand() *cobra.Command {
	var o stack.Options
	cmd := &cobra.Command{
		Use: "up", Short: "Start everything and keep it running until Ctrl-C", Args: cobra.NoArgs,
		Long: `Starts a directory, cells and routers and keeps them running until Ctrl-C, or
until "cellway down" is called elsewhere. Data, logs and secrets stay in the data
directory, so that the next start is quick. A process that dies is reported; the
others keep running.`,
		Example: "  cellway up\n  cellway up --cells 4 --routers 1 --data /tmp/cellway\n  cellway up --tls",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Log = cmd.ErrOrStderr()
			if !cmd.Flags().Changed("port") && local.PortFree(usualPort) {
				o.Port = usualPort
			}
			return up(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Cells, "cells", 3, "number of cells")
	f.IntVar(&o.Routers, "routers", 2, "number of routers")
	f.IntVar(&o.Port, "port", 0, fmt.Sprintf("port of the first router (default %d, or any if that is taken)", usualPort))
	f.BoolVar(&o.TLS, "tls", false, "TLS for tenants, mutual TLS inside, by a development authority in the data directory")
	f.StringVar(&o.BinDir, "bin-dir", "", "where directory, router and cell are (default: beside this program)")
	f.StringVar(&o.PostgresBin, "postgres-bin", "", "directory of Postgres's programs ("+local.PostgresBinEnv+")")
	f.StringVar(&o.RedisServer, "redis-server", "", "path of redis-server ("+local.RedisServerEnv+")")
	dataFlag(cmd, &o.Dir)
	return cmd
}

// up runs a stack until ctx ends.
func up(ctx context.Context, o stack.Options, out io.Writer) error {
	began := time.Now()
	s, err := stack.Start(ctx, o)
	if err != nil {
		return err
	}
	if err := guide(out, s.State(), o.BinDir, time.Since(began)); err != nil {
		fmt.Fprintf(o.Log, "! %v\n", err) // the stack runs all the same
	}
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case <-s.Failed():
			fmt.Fprintln(o.Log, "! the others keep running; Ctrl-C stops them")
		}
	}
	fmt.Fprintln(o.Log, "stopping")
	// ctx has ended, which is why we stop; the stop has a deadline of its own.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return s.Stop(stopping)
}

// Command mover moves tenants between cells: it takes the moves that the directory
// records, several side by side, each under a lease. Any number of movers may run;
// one that dies is replaced by another within the lease.
package main

import (
	"context"
	"io"
	"os"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/run"
)

func main() {
	run.Service("mover", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	})
}

// command does what args say. out takes what was asked for, log everything else.
func command(ctx context.Context, args, environ []string, out, log io.Writer) error {
	var cfg Config
	if done, err := config.Command("mover", prefix, args, environ, out, &cfg); done || err != nil {
		return err
	}
	return start(ctx, cfg, log)
}

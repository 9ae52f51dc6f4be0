// Command cell is one cell's API, its worker, or both (CELL_ROLE). All processes
// of a cell share its Postgres and its Redis and know of no other cell.
package main

import (
	"context"
	"io"
	"os"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/run"
)

func main() {
	run.Service("cell", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	})
}

// command does what args say. out takes what was asked for, log everything else.
func command(ctx context.Context, args, environ []string, out, log io.Writer) error {
	var cfg Config
	if done, err := config.Command("cell", prefix, args, environ, out, &cfg); done || err != nil {
		return err
	}
	return start(ctx, cfg, log)
}

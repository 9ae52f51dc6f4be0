// Command cell is one cell's API, its worker, or both (CELL_ROLE). All processes
// of a cell share its Postgres and its Redis and know of no other cell.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/run"
)

func main() {
	run.Main("cell", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	})
}

// command does what args say. out takes what was asked for, log everything else.
func command(ctx context.Context, args, environ []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("cell", flag.ContinueOnError)
	printConfig := flags.Bool("print-config", false, "print the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("cell takes no argument, got %q", flags.Arg(0))
	}
	if *version {
		_, err := fmt.Fprintln(out, run.Version)
		return err
	}
	var cfg Config
	if err := config.Load(prefix, environ, &cfg); err != nil {
		return err
	}
	if *printConfig {
		config.Print(out, prefix, &cfg)
		return nil
	}
	return start(ctx, cfg, log)
}

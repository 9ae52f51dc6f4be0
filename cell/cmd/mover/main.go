// Command mover moves tenants between cells: it takes the moves that the directory
// records, several side by side, each under a lease. Any number of movers may run;
// one that dies is replaced by another within the lease.
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
	run.Main("mover", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	})
}

// command does what args say. out takes what was asked for, log everything else.
func command(ctx context.Context, args, environ []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("mover", flag.ContinueOnError)
	printConfig := flags.Bool("print-config", false, "print the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("mover takes no argument, got %q", flags.Arg(0))
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

// Command directory keeps the record of which cell owns which tenant and serves
// it over HTTP. Several may run on one database, side by side.
//
// Besides serving, which it does without an argument, it makes keys and tokens:
//
//	directory new-key --id k1
//	directory issue-token --kind operator --subject ann --ttl 12h
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
	run.Main("directory", func(ctx context.Context) error {
		return command(ctx, os.Args[1:], os.Environ(), os.Stdout)
	})
}

// command does what args say.
func command(ctx context.Context, args, environ []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "new-key":
			return newKey(args[1:], out)
		case "issue-token":
			return issueToken(args[1:], environ, out)
		}
	}
	flags := newFlags("directory")
	printConfig := flags.Bool("print-config", false, "print the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no command %q: there are new-key and issue-token", flags.Arg(0))
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
	return serve(ctx, cfg)
}

// newFlags makes flags whose errors come back instead of ending the process.
func newFlags(name string) *flag.FlagSet {
	return flag.NewFlagSet(name, flag.ContinueOnError)
}

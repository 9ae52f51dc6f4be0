package config

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/cellway/cellway/infra/run"
)

// Command reads the command line of the process called name, which takes flags
// only, and then its settings, as Load does. done says that the flags asked for
// something that is done by now: --print-config or --version, which write to out,
// or --help.
func Command(name, prefix string, args, environ []string, out io.Writer, into any) (done bool, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	printConfig := flags.Bool("print-config", false, "print the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return true, nil
	case err != nil:
		return false, err
	case flags.NArg() > 0:
		return false, fmt.Errorf("%s takes no argument, got %q", name, flags.Arg(0))
	case *version:
		_, err := fmt.Fprintln(out, run.Version)
		return true, err
	}
	if err := Load(prefix, environ, into); err != nil {
		return false, err
	}
	if *printConfig {
		Print(out, prefix, into)
	}
	return *printConfig, nil
}

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
// something that is done by now: --print-config, --print-settings or --version, which
// write to out, or --help.
func Command(name, prefix string, args, environ []string, out io.Writer, into any) (done bool, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	printConfig := flags.Bool("print-config", false, "print the value of each setting, and where it is from, and exit")
	settings := flags.Bool("print-settings", false, "print a table of all settings and exit: docs/SETTINGS.md")
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
	case *settings:
		printTable(out, prefix, into)
		return true, nil
	}
	sources, err := load(prefix, environ, into)
	if err != nil {
		return false, err
	}
	if *printConfig {
		printValues(out, prefix, into, sources)
	}
	return *printConfig, nil
}

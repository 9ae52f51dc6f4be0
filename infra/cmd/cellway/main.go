// Command cellway runs the whole product on one machine: a directory, cells with
// a Postgres and a Redis of their own, and routers, as real processes.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/run"
)

// usageCode is the exit code for a command line that is wrong.
const usageCode = 2

func main() {
	run.Main("cellway", func(ctx context.Context) error { return root().ExecuteContext(ctx) })
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cellway", Short: "Run the whole product on this machine",
		Long: `Runs the whole product on this machine as real processes: a directory, cells with
a Postgres and a Redis server each, and routers behind one endpoint.`,
		Example:      "  cellway up\n  cellway status\n  cellway demo\n  cellway down",
		SilenceUsage: true, SilenceErrors: true, Version: run.Version,
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &run.Exit{Code: usageCode, Err: errors.New(err.Error() + "; see " + c.CommandPath() + " --help")}
	})
	cmd.SetOut(os.Stdout)
	cmd.SetErr(os.Stderr)
	cmd.AddCommand(upCommand(), statusCommand(), downCommand(), demoCommand(), certsCommand())
	return cmd
}

// dataFlag is the same for every command that needs the directory.
func dataFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data", ".cellway", "directory for data, logs and state")
}

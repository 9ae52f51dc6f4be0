package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/stack"
)

func downCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "down", Short: "Stop everything, also what a killed `cellway up` left behind", Args: cobra.NoArgs,
		Long: `Asks the process that runs the stack to stop, waits for it, and ends what it may
have left. The data stays. Where nothing runs there is nothing to do.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), stopTimeout)
			defer cancel()
			err := stack.Down(ctx, dir)
			if errors.Is(err, stack.ErrNotRunning) {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				return nil
			}
			return err
		},
	}
	dataFlag(cmd, &dir)
	return cmd
}

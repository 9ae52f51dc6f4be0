package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// demoCommand becomes `loadtest demo`, which puts a stack to work from outside.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo [flags]", Short: "Start the product, put it to work, break it, and print what held",
		DisableFlagParsing: true, // they are loadtest's, --help too
		RunE: func(_ *cobra.Command, args []string) error {
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find loadtest: %w", err)
			}
			path := filepath.Join(filepath.Dir(exe), "loadtest")
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("no program %q beside this one: run `make build`", "loadtest")
			}
			if err := syscall.Exec(path, append([]string{path, "demo"}, args...), os.Environ()); err != nil {
				return fmt.Errorf("run %s: %w", path, err)
			}
			return nil
		},
	}
}

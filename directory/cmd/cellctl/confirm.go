package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/problem"
)

func addYes(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// confirm lets a person type the name of what is about to go. Where there is
// nobody to ask it never waits: without --yes it refuses.
func (a *app) confirm(ctx context.Context, yes bool, kind, name, consequence string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.in) {
		return usage("add --yes to do it without being asked", "this takes %s %s away and there is no terminal to ask on", kind, name)
	}
	fmt.Fprintf(a.err, "This takes %s %s away. %s\nType its name to go on: ", kind, name, consequence)
	answer := make(chan string, 1)
	go func() { // ends with the process: a read of a terminal cannot be called off
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case got := <-answer:
		if got != name {
			return hinted{problem.New(problem.Forbidden, "%q is not %q: nothing was changed", got, name), "type the name exactly as it stands in the question"}
		}
		return nil
	}
}

// done says that a thing is gone: its name for scripts that ask for names, a document for
// programs, with what may follow, a note for people.
func (a *app) done(name, what string, next ...string) error {
	switch a.flags.output {
	case "name":
		fmt.Fprintln(a.out, name)
		return nil
	case "json", "yaml":
		return a.document("Done", map[string]string{"name": name}, map[string]any{"done": what, "next_steps": a.there(next...)})
	}
	a.note("%s %s", name, what)
	return nil
}

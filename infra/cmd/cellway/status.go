package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/stack"
)

// A row is what status says of one process.
type row struct {
	Name  string `json:"name"`
	PID   int    `json:"pid,omitempty"`
	State string `json:"state"` // "ready", "running" (it has no readiness), "not ready", "dead"
	URL   string `json:"url,omitempty"`
	Admin string `json:"admin,omitempty"`
	Log   string `json:"log,omitempty"`
}

func statusCommand() *cobra.Command {
	var dir, format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show what runs; exit code 1 if something that should does not", Args: cobra.NoArgs,
		Example: "  cellway status\n  cellway status -o json | jq '.[] | select(.state != \"ready\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return &run.Exit{Code: usageCode, Err: errors.New("-o must be table or json")}
			}
			st, err := stack.Load(dir)
			if err != nil {
				return err
			}
			rows := statusOf(cmd.Context(), st)
			if err := printRows(cmd.OutOrStdout(), rows, format); err != nil {
				return err
			}
			return unwell(rows)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	dataFlag(cmd, &dir)
	return cmd
}

// statusOf asks every process of the stack how it is.
func statusOf(ctx context.Context, st stack.State) []row {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	running := map[string]stack.Process{}
	for _, p := range st.Processes {
		if p.Alive() {
			running[p.Name] = p
		}
	}
	var rows []row
	for _, part := range parts(st) {
		p, alive := running[part.name]
		r := row{Name: part.name, PID: p.PID, State: "running", URL: part.url, Admin: part.admin, Log: p.Log}
		switch {
		case !alive:
			r.State = "dead"
		case part.admin != "" && stack.Ready(ctx, part.admin) != nil:
			r.State = "not ready"
		case part.admin != "":
			r.State = "ready"
		}
		rows = append(rows, r)
	}
	return rows
}

func printRows(out io.Writer, rows []row, format string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPID\tURL\tADMIN")
	for _, r := range rows {
		pid := "-"
		if r.PID != 0 {
			pid = strconv.Itoa(r.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.State, pid, r.URL, r.Admin)
	}
	return w.Flush()
}

// unwell is an error that names what does not work.
func unwell(rows []row) error {
	var names []string
	for _, r := range rows {
		if r.State == "dead" || r.State == "not ready" {
			names = append(names, r.Name+" ("+r.State+")")
		}
	}
	if names == nil {
		return nil
	}
	return errors.New("something is wrong with " + strings.Join(names, ", "))
}

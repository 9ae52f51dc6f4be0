package figure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// A Report is all figures of a command, with the machine that they are of. Its
// JSON form is stable.
type Report struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Command    string          `json:"command"`
	Date       string          `json:"date"`
	Machine    string          `json:"machine"`
	Load       string          `json:"load"` // load average before the start: what else the machine was doing
	Version    string          `json:"version"`
	Rounds     int             `json:"rounds"`
	Took       loadtest.Millis `json:"took_ms,omitempty"`
	Figures    []Figure        `json:"figures"`
	Warnings   []string        `json:"warnings,omitempty"`
}

// NewReport makes a report of command without figures. source is the source
// tree, whose version it names.
func NewReport(ctx context.Context, command, source string, rounds int) *Report {
	return &Report{
		APIVersion: loadtest.APIVersion, Kind: kind, Command: command, Rounds: rounds,
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: machine(), Load: Load(),
		Version: version(ctx, source),
	}
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tMEDIAN\tUNIT\tGOAL")
	for _, f := range r.Figures {
		for _, v := range f.Values {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, v.Name, v.number(), v.Unit, v.Verdict())
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, f := range r.Figures {
		fmt.Fprintf(w, "\n%s: %s\n  %s\n", f.Name, f.Title, f.How)
		for _, n := range f.Notes {
			fmt.Fprintf(w, "  - %s\n", n)
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "\nwarning: %s\n", warning)
	}
	took := ""
	if r.Took > 0 { // a report that was read may not know it
		took = fmt.Sprintf("; %.0f s", float64(r.Took)/1e9)
	}
	_, err := fmt.Fprintf(w, "\n%s; %s; %s; load average %s before; median of %d rounds%s\n", r.Date, r.Version, r.Machine, r.Load, r.Rounds, took)
	return err
}

// WriteDoc puts the report into docs/BENCHMARKS.md of the source tree, between
// the markers of the section: "<!-- section:begin ... -->", "<!-- section:end -->".
func (r *Report) WriteDoc(source, section string) error {
	path := filepath.Join(source, "docs", "BENCHMARKS.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	updated, err := between(old, r.markdown(), section, r.Command)
	if err != nil {
		return fmt.Errorf("write report into %s: %w", path, err)
	}
	if err := os.WriteFile(path, updated, 0o644); err != nil { //nolint:gosec // a document for everybody
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// between replaces what stands between the markers of a section.
func between(doc, text []byte, section, command string) ([]byte, error) {
	begin := fmt.Sprintf("<!-- %s:begin (written by `%s`) -->", section, command)
	end := fmt.Sprintf("<!-- %s:end -->", section)
	head, rest, ok := bytes.Cut(doc, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, errors.New("no markers " + begin + " and " + end)
	}
	return bytes.Join([][]byte{head, []byte(begin + "\n\n"), text, []byte("\n" + end), tail}, nil), nil
}

func (r *Report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "`%s`, %s, version %s, %s; load average %s before the start. Median of %d rounds.\n\n",
		r.Command, r.Date, r.Version, r.Machine, r.Load, r.Rounds)
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "**Warning**: %s\n\n", w)
	}
	b.WriteString("| Figure | Median | Rounds | Goal |\n|---|---|---|---|\n")
	for _, f := range r.Figures {
		for _, v := range f.Values {
			fmt.Fprintf(&b, "| %s: %s | %s %s | %s | %s |\n",
				f.Name, strings.ReplaceAll(v.Name, "|", `\|`), v.number(), v.Unit, v.rounds(), v.Verdict())
		}
	}
	b.WriteString("\nHow each was measured:\n\n")
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "- **%s** (%s): %s\n", f.Name, f.Title, f.How)
		for _, n := range f.Notes {
			fmt.Fprintf(&b, "  - %s\n", n)
		}
	}
	return b.Bytes()
}

// rounds is the value of each round; of many, from which to which they go.
func (v Value) rounds() string {
	const most = 12
	if n := len(v.Rounds); n > most {
		return fmt.Sprintf("%d, %s to %s", n, Number(slices.Min(v.Rounds)), Number(slices.Max(v.Rounds)))
	}
	var all []string
	for _, x := range v.Rounds {
		all = append(all, Number(x))
	}
	return strings.Join(all, ", ")
}

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/loadtest"
)

// A Report is all figures, with the machine that they are of. Its JSON form is stable.
type Report struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Command    string          `json:"command"`
	Date       string          `json:"date"`
	Machine    string          `json:"machine"`
	Load       string          `json:"load"` // load average before the start: what else the machine was doing
	Version    string          `json:"version"`
	Rounds     int             `json:"rounds"`
	Took       loadtest.Millis `json:"took_ms"`
	Figures    []Figure        `json:"figures"`
}

func newReport(ctx context.Context, o Options) *Report {
	return &Report{
		APIVersion: "cellway.io/v1", Kind: "BenchReport", Command: "make bench", Rounds: o.Rounds,
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: machine(), Load: load(),
		Version: version(ctx, o.Source),
	}
}

// machine says what the figures were measured on, as far as the system tells.
func machine() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	memory := ""
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err == nil {
			memory = fmt.Sprintf(", %.0f GiB", float64(kb)/(1<<20))
		}
	}
	return fmt.Sprintf("%d cores of %s%s, %s, %s", runtime.NumCPU(), cpu, memory, runtime.GOOS, runtime.Version())
}

// load is the load average of the last minute, where the system tells.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// version is the commit, where git knows it, else what the linker was told.
func version(ctx context.Context, source string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return run.Version
	}
	return strings.TrimSpace(string(out))
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tMEDIAN\tUNIT\tGOAL")
	for _, f := range r.Figures {
		for _, v := range f.Values {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, v.Name, number(v.Median), v.Unit, v.verdict())
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	for _, f := range r.Figures {
		fmt.Fprintf(w, "\n%s: %s\n  %s\n", f.Name, f.Title, f.How)
	}
	_, err := fmt.Fprintf(w, "\n%s; %s; %s; load average %s before; median of %d rounds; %.0f s\n", r.Date, r.Version, r.Machine, r.Load, r.Rounds, float64(r.Took)/1e9)
	return err
}

// The markers in docs/BENCHMARKS.md between which the report stands.
const (
	markBegin = "<!-- bench:begin (written by `make bench`) -->"
	markEnd   = "<!-- bench:end -->"
)

// writeInto puts the report between the markers of the file.
func (r *Report) writeInto(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	updated, err := between(old, r.markdown())
	if err != nil {
		return fmt.Errorf("write report into %s: %w", path, err)
	}
	if err := os.WriteFile(path, updated, 0o644); err != nil { //nolint:gosec // a document for everybody
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// between replaces what stands between the markers.
func between(doc, text []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(doc, []byte(markBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(markEnd))
	if !ok || !ok2 {
		return nil, errors.New("no markers " + markBegin + " and " + markEnd)
	}
	return bytes.Join([][]byte{head, []byte(markBegin + "\n\n"), text, []byte("\n" + markEnd), tail}, nil), nil
}

func (r *Report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "`%s`, %s, version %s, %s; load average %s before the start. Median of %d rounds.\n\n",
		r.Command, r.Date, r.Version, r.Machine, r.Load, r.Rounds)
	b.WriteString("| Figure | Median | Rounds | Goal |\n|---|---|---|---|\n")
	for _, f := range r.Figures {
		for _, v := range f.Values {
			var rounds []string
			for _, x := range v.Rounds {
				rounds = append(rounds, number(x))
			}
			fmt.Fprintf(&b, "| %s: %s | %s %s | %s | %s |\n", f.Name, v.Name, number(v.Median), v.Unit, strings.Join(rounds, ", "), v.verdict())
		}
	}
	b.WriteString("\nHow each was measured:\n\n")
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "- **%s** (%s): %s\n", f.Name, f.Title, f.How)
	}
	return b.Bytes()
}

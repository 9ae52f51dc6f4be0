package peers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cellway/cellway/loadtest/figure"
)

// command is what reports are of, and section names what of docs/ is theirs.
const (
	command = "make bench-peers"
	section = "bench-peers"
)

// writeDocs writes the report as JSON, table and plot into docs/ of the source tree.
func writeDocs(source string, r *figure.Report) error {
	file := filepath.Join(source, "docs", section)
	err := errors.Join(r.WriteJSON(file+".json"), r.WriteDoc(source, section))
	if e := os.WriteFile(file+".svg", plot(r), 0o644); e != nil { //nolint:gosec // a document for everybody
		err = errors.Join(err, fmt.Errorf("write plot: %w", e))
	}
	return err
}

// Draw reads the report of a whole run, as it stands in docs/bench-peers.json or was
// printed as JSON, and with write makes docs/ of the source tree anew of it.
func Draw(source, file string, write bool) (*figure.Report, error) {
	r, err := figure.ReadReport(file)
	if err != nil {
		return nil, err
	}
	if err := whole(r); err != nil {
		return nil, fmt.Errorf("draw %s: %w", file, err)
	}
	if !write {
		return r, nil
	}
	return r, writeDocs(source, r)
}

// whole refuses what a run would not have written into docs/, as far as the report tells.
func whole(r *figure.Report) error {
	if r.Command != command {
		return fmt.Errorf("it is of %s", r.Command)
	}
	for _, m := range measures() {
		if !slices.ContainsFunc(r.Figures, func(f figure.Figure) bool { return f.Name == m.Name }) {
			return fmt.Errorf("it has no %s", m.Name)
		}
	}
	for _, w := range r.Warnings {
		if strings.HasPrefix(w, quickly) {
			return errors.New("it is of a short run")
		}
	}
	return nil
}

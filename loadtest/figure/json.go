package figure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"

	"github.com/cellway/cellway/loadtest"
)

// kind is a report's, in its JSON form.
const kind = "BenchReport"

// innermost are objects without others in them: the values. JSON's strings have no
// ends of lines, so that only the layout changes.
var (
	innermost = regexp.MustCompile(`\{[^{}]*\}`)
	ends      = regexp.MustCompile(`\n\s*`)
)

// WriteJSON writes the report to a file, each value in a line of its own.
func (r *Report) WriteJSON(path string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // goals are "<= 5"
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	text := innermost.ReplaceAllFunc(b.Bytes(), func(value []byte) []byte { return ends.ReplaceAll(value, []byte(" ")) })
	if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // a document for everybody
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// ReadReport reads what WriteJSON wrote, or a command printed with -o json.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	if r.APIVersion != loadtest.APIVersion || r.Kind != kind {
		return nil, fmt.Errorf("read report %s: it is no %s of %s", path, kind, loadtest.APIVersion)
	}
	return &r, nil
}

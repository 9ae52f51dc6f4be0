package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// A fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAnAnswerThatIsNotWrittenIsNoSuccess(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"version -o json", "version -o yaml", "version", "config view", "tenant --help"} {
		var stderr bytes.Buffer
		a := &app{in: strings.NewReader(""), out: fullDisk{}, err: &stderr, getenv: func(string) string { return "" }, now: time.Now}
		if code := a.main(t.Context(), strings.Fields(args)); code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: exit %d, %q", args, code, stderr.String())
		}
	}
}

// TestNothingShownTurnsTheText: whoever signs up chooses a title. One that turns the direction of
// text, or moves the cursor, would show an operator another line than there is.
func TestNothingShownTurnsTheText(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"wide", "csv"} {
		a, said, _ := quiet()
		a.flags.output = format
		title := "Acme \u202e\u2066\u200f\x1b[2K\u0085 שלום"
		if err := tenantView.list(a, []directory.Tenant{{Slug: "acme", Name: title}}, nil); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said.String(), "Acme ????[2K? שלום") {
			t.Errorf("%s: got %q", format, said)
		}
	}
}

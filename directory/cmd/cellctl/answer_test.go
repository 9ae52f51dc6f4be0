package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
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

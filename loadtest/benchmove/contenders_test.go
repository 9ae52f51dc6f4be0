package benchmove

import (
	"strings"
	"testing"

	"github.com/cellway/cellway/loadtest"
)

func TestPipedTellsWhoFailed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sh := func(script string) []string { return []string{"-c", script} }
	if err := piped(command(ctx, "", "/bin/sh", sh("echo x")...), command(ctx, "", "/bin/sh", sh("read y && test $y = x")...)); err != nil {
		t.Errorf("got %v", err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"echo broken >&2; exit 3", "cat", "exit status 3"},
		{"echo x", "echo full >&2; cat >/dev/null; exit 4", "full"},
	} {
		err := piped(command(ctx, "", "/bin/sh", sh(tt.from)...), command(ctx, "", "/bin/sh", sh(tt.to)...))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s | %s: got %v, want %q in it", tt.from, tt.to, err, tt.want)
		}
	}
}

func TestCommandSetsSessionOptions(t *testing.T) {
	t.Parallel()
	out, err := command(t.Context(), "-c cell.tenant=7", "/bin/sh", "-c", "echo $PGOPTIONS").Output()
	if err != nil || strings.TrimSpace(string(out)) != "-c cell.tenant=7" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestDatabaseKeepsTheRest(t *testing.T) {
	t.Parallel()
	got, err := database("postgres://u:p@127.0.0.1:5432/cell?sslmode=disable", "rival")
	if err != nil || got != "postgres://u:p@127.0.0.1:5432/rival?sslmode=disable" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := database("postgres://%zz", "x"); err == nil || strings.Contains(err.Error(), "zz") {
		t.Errorf("got %v, want an error that does not show the URL", err)
	}
}

func TestWeSayWhereWeLose(t *testing.T) {
	t.Parallel()
	m := rivalsFigure()
	m.Add("cellway: total", 200)
	m.Add("cellway: pause", 10)
	m.Add("cellway: throughput during", 0.7)
	m.Add("native subscription: total", 100)
	m.Add("native subscription: pause", 20)
	m.Add("native subscription: throughput during", 0.9)
	whereWeLose(m)
	got := strings.Join(m.Notes, "\n")
	if len(m.Notes) != 2 || !strings.Contains(got, "shorter total") || !strings.Contains(got, "throughput") {
		t.Errorf("got %d notes:\n%s", len(m.Notes), got)
	}
	if loadtest.Median(m.Values[0].Rounds) != 200 {
		t.Errorf("got %v", m.Values[0])
	}
}

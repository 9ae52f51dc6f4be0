package guard

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{
		"colour: red":                                            "colour",
		"clients: {conections: 1}":                               "conections",
		"clients: {requests: 1}":                                 "window",
		"clients: {requests: -1, window: 1s}":                    "requests",
		"clients: {connections: -1}":                             "connections",
		"clients: {burst: 3}":                                    "need requests",
		"clients: {requests: 1, window: 1ms}":                    "window",
		"clients: {requests: 1, window: 24h, burst: 1000000}":    "burst",
		"clients: {requests: many}":                              "many",
		"trusted: [nowhere]":                                     "nowhere",
		"trusted: [10.0.0.0/33]":                                 "10.0.0.0/33",
		"tiers: {gold: {concurrent: -1}}":                        "tiers.gold",
		"tenants: {7: gold}":                                     "gold",
		"routes: [{prefix: /x}]":                                 "name",
		"routes: [{name: Up, prefix: /x}]":                       "name",
		"routes: [{name: x, prefix: x}]":                         "prefix",
		"routes: [{name: x, prefix: /signup/x}]":                 "sign-up",
		"signup: {contract: block}":                              "signup",
		"signup: {waf: on}":                                      "off, detect or block",
		"routes: [{name: default, prefix: /}]":                   "twice",
		"routes: [{name: x, prefix: /, max_body: -1}]":           "max_body",
		"routes: [{name: x, prefix: /, methods: [FETCH]}]":       "FETCH",
		"routes: [{name: x, prefix: /x}, {name: x, prefix: /y}]": "twice",
		"contract: {mode: block}":                                "file",
		"contract: {file: x, mode: on}":                          "off, detect or block",
		"waf: {mode: yes}":                                       "off, detect or block",
		"routes: [{name: x, prefix: /, contract: detect}]":       "file",
		"routes: [{name: x, prefix: /, inspect_body: 65537}]":    "inspect_body",
		"waf: {paranoia: 5}":                                     "paranoia",
		"waf: {per_second: -1}":                                  "per_second",
		"waf: {exclude: [{tenants: [1]}]}":                       "rules or tags",
		"waf: {exclude: [{rules: [1], routes: [x]}]}":            "no route",
		"waf: {exclude: [{tags: ['a\"']}]}":                      "tag",
		"routes: {":                                              "",
		"- a":                                                    "",
	} {
		_, err := Parse([]byte(policy))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line about %s", policy, err, want)
		}
	}
	for _, fine := range []string{"", "# nothing\n", "{}"} {
		if _, err := Parse([]byte(fine)); err != nil {
			t.Errorf("%q: %v", fine, err)
		}
	}
}

// TestFile: a bad file at the start is an error; one that comes later is refused
// with one line, and what was in force stays so.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	age := time.Now()
	write := func(s string) {
		t.Helper()
		age = age.Add(time.Second) // as if it were another second
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	g, log := New(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(&out, nil))
	if _, err := NewFile(path, g, log); err == nil {
		t.Error("no file: no error")
	}
	write("colour: red")
	if _, err := NewFile(path, g, log); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("bad file: got %v", err)
	}
	write("clients: {concurrent: 1}")
	f, err := NewFile(path, g, log)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	concurrent := func() int {
		n := 0
		var took []Verdict
		for range 5 {
			if v := g.CheckClient(addr); v.Err == nil {
				took = append(took, v)
				n++
			}
		}
		for _, v := range took {
			g.Done(v)
		}
		return n
	}
	for _, tt := range []struct {
		policy string
		want   int
	}{{"clients: {concurrent: 3}", 3}, {"clients: {concurrent: -3}", 3}, {"clients: {concurrent: 2}", 2}} {
		write(tt.policy)
		f.runOnce(t.Context())
		f.runOnce(t.Context()) // nothing new: no line
		if got := concurrent(); got != tt.want {
			t.Errorf("%s: got %d at once, want %d", tt.policy, got, tt.want)
		}
	}
	if n := strings.Count(out.String(), "policy refused"); n != 1 {
		t.Errorf("got %d lines about the bad file, want 1:\n%s", n, &out)
	}
	if got := testutil.ToFloat64(g.metrics.reloads.WithLabelValues("ok")); got != 2 {
		t.Errorf("reloads: got %v, want 2", got)
	}
}

// TestReloadsAreCountedFromZero: an alert does not see a series that begins with a 1.
func TestReloadsAreCountedFromZero(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	New(reg)
	if n, err := testutil.GatherAndCount(reg, "router_guard_reloads_total"); err != nil || n != 2 {
		t.Errorf("got %d series (%v) before anything was read, want 2: ok and refused", n, err)
	}
}

// TestAFileThatIsBeingWritten is not in force before it is whole: what changes from
// look to look is waited for, and nothing at all is no policy that was asked for.
func TestAFileThatIsBeingWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	age := time.Now()
	write := func(s string) {
		t.Helper()
		age = age.Add(time.Second) // as if it were another second
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
	}
	for _, empty := range []string{"", "# nothing yet\n", "---\n"} {
		write(empty)
		if _, err := NewFile(path, New(prometheus.NewRegistry()), slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%q at the start: %v", empty, err)
		}
	}
	write("clients: {concurrent: 1}\nwaf: {mode: off}")
	g := New(prometheus.NewRegistry())
	f, err := NewFile(path, g, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []string{"", "clients:", "clients: {concurrent: 3}"} {
		write(half)
		if f.runOnce(t.Context()); g.rules.Load().clients.Concurrent != 1 {
			t.Errorf("%q is in force before a second look", half)
		}
	}
	if f.runOnce(t.Context()); g.rules.Load().clients.Concurrent != 3 {
		t.Error("what two looks agree on is not in force")
	}
	for _, empty := range []string{"", "# nothing yet\n", "---\n"} {
		write(empty)
		f.runOnce(t.Context())
		if f.runOnce(t.Context()); g.Idle() {
			t.Errorf("%q is in force", empty)
		}
	}
	write("{}")
	f.runOnce(t.Context())
	if f.runOnce(t.Context()); !g.Idle() {
		t.Error("{}, which asks for nothing, is not in force")
	}
}

// TestFileBySignal: a signal makes Run read the file even where its stamp is the same.
func TestFileBySignal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := New(prometheus.NewRegistry())
	f, err := NewFile(path, g, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	now, ended := make(chan os.Signal), make(chan error, 1)
	go func() { ended <- f.Run(ctx, now) }()
	now <- os.Interrupt
	now <- os.Interrupt // the first one was dealt with
	if got := testutil.ToFloat64(g.metrics.reloads.WithLabelValues("ok")); got < 1 {
		t.Errorf("reloads: got %v, want at least 1", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

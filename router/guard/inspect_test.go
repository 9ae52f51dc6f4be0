package guard

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

const (
	contractOfX = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {/x: {get: {responses: {default: {description: d}}}}}"
	ownRule     = `SecRule REQUEST_URI "@contains %s" "id:1000,phase:1,deny,log,msg:'own'"`
	attack      = "/x?q=1%27%20OR%20%271%27=%271%27--"
)

// TestFilesOfAPolicyAreFollowed: a contract or a rule file that is not good fails the
// start, is refused later, and what was in force stays so; no line is longer than one.
func TestFilesOfAPolicyAreFollowed(t *testing.T) {
	t.Parallel()
	dir, age := t.TempDir(), time.Now()
	write := func(name, s string) {
		t.Helper()
		age = age.Add(time.Second) // as if it were another second
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	g, log := New(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(&out, nil))
	policy := filepath.Join(dir, "policy.yaml")
	write("policy.yaml", "contract: {file: api.yaml, mode: block}\nwaf: {mode: block, rules: [own.conf]}")
	start := func() error { _, err := NewFile(policy, g, log); return err }
	for _, step := range []struct{ name, text, want string }{{"api.yaml", "openapi: 3", "own.conf"}, {"own.conf", "SecNonsense", "api.yaml"}, {"api.yaml", contractOfX, "own.conf"}} {
		write(step.name, step.text)
		if err := start(); err == nil || !strings.Contains(err.Error(), step.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("start with bad files: got %v, want one line about %s", err, step.want)
		}
	}
	write("own.conf", strings.Replace(ownRule, "%s", "first", 1))
	f, err := NewFile(policy, g, log)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(target string) bool {
		return g.Inspect(&Inspection{Request: httptest.NewRequest("GET", target, nil), Whole: true, Log: log}) != nil
	}
	for _, step := range []struct{ name, text, refused, passes string }{
		{"own.conf", "SecRule", "/x?first", "/x?second"},
		{"own.conf", strings.Replace(ownRule, "%s", "second", 1), "/x?second", "/x?first"},
		{"api.yaml", "paths: {", "/y", "/x"},
		{"api.yaml", strings.Replace(contractOfX, "/x", "/y", 1), "/x", "/y"},
	} {
		write(step.name, step.text)
		f.runOnce(t.Context())
		f.runOnce(t.Context()) // it stays so
		if !refuses(step.refused) || refuses(step.passes) {
			t.Errorf("%s %.20q: %s refused %v, %s refused %v", step.name, step.text, step.refused, refuses(step.refused), step.passes, refuses(step.passes))
		}
	}
	if n := strings.Count(out.String(), "policy refused"); n != 2 {
		t.Errorf("got %d lines about bad files, want 2:\n%s", n, &out)
	}
	if err := os.Remove(filepath.Join(dir, "api.yaml")); err != nil {
		t.Fatal(err)
	}
	f.runOnce(t.Context())
	f.runOnce(t.Context())
	if refuses("/y") || !refuses("/x") {
		t.Error("a file that is gone changed what is in force")
	}
}

// TestAPolicyFileDetects: where a file says nothing, the WAF detects; a policy that
// is made otherwise says what it wants.
func TestAPolicyFileDetects(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	for text, want := range map[string]Mode{"{}": Detect, "waf: {mode: off}": Off, "waf: {paranoia: 2}": Detect} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := Load(path); err != nil || p.WAF.Mode != want {
			t.Errorf("%s: got %q, %v", text, p.WAF.Mode, err)
		}
	}
	if p, err := Parse([]byte("{}")); err != nil || p.WAF.Mode != "" {
		t.Errorf("parsed: got %q, %v", p.WAF.Mode, err)
	}
}

// TestDetectIsBounded: clients do not wait, at most per_second requests are looked at,
// and whoever does not keep up skips.
func TestDetectIsBounded(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "waf: {mode: detect, per_second: 80}")
	in := &Inspection{Request: httptest.NewRequest("GET", attack, nil), Whole: true, Log: slog.New(slog.DiscardHandler)}
	g.samples.full.Store(g.now() + int64(time.Hour)) // as if there had been many
	if g.Inspects("GET", "/x") {
		t.Error("over its rate, it wants more")
	}
	g.samples.full.Store(-int64(time.Second))
	for range 1000 {
		if err := g.Inspect(in); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.queue); n != mostSamples {
		t.Errorf("%d wait, want %d", n, mostSamples)
	}
	if testutil.ToFloat64(g.metrics.looked.WithLabelValues("skipped")) == 0 {
		t.Error("what was not looked at is not counted")
	}
}

// TestRulesThatPanicEndNothing: who looks in the background goes on, and counts it.
func TestRulesThatPanicEndNothing(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "{}")
	var out bytes.Buffer
	g.detect(&sample{id: "req-1", log: slog.New(slog.NewTextHandler(&out, nil))}) // without an engine
	if got := testutil.ToFloat64(g.metrics.looked.WithLabelValues("failed")); got != 1 || !strings.Contains(out.String(), "req-1") {
		t.Errorf("counted %v, logged %q", got, &out)
	}
}

// TestBodiesThatBlockAreBounded: as many are looked into at once as there are places;
// one more is told to come again, and a head does not wait.
func TestBodiesThatBlockAreBounded(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "{waf: {mode: block}, routes: [{name: b, prefix: /b, inspect_body: 100}]}")
	for range cap(g.bodies.all) {
		g.bodies.all <- struct{}{}
	}
	in := &Inspection{Request: httptest.NewRequest("POST", "/b", nil), Body: []byte("a=b"), Whole: true, Log: slog.New(slog.DiscardHandler)}
	err := g.Inspect(in)
	if e, ok := errors.AsType[*problem.Error](err); !ok || e.Kind != problem.Unavailable || e.RetryAfter == 0 {
		t.Errorf("got %v, want to be told to come again", err)
	}
	in.Body = nil
	if err := g.Inspect(in); problem.KindOf(err) == problem.Unavailable {
		t.Errorf("a head: got %v", err)
	}
	<-g.bodies.all
	in.Body = []byte("a=b")
	if err := g.Inspect(in); problem.KindOf(err) == problem.Unavailable || len(g.bodies.all) != cap(g.bodies.all)-1 || len(g.bodies.of) != 0 {
		t.Errorf("with a place: got %v, and %d are taken", err, len(g.bodies.all))
	}
}

// TestBodiesOfOthersAreLookedInto: neither one tenant, however many of its bodies take
// long or wait, nor those who sign up take the places of others.
func TestBodiesOfOthersAreLookedInto(t *testing.T) {
	t.Parallel()
	const noisy, other = 1, 2
	g := newGuard(t, "{waf: {mode: block}, signup: {waf: block, inspect_body: 100}, routes: [{name: b, prefix: /b, inspect_body: 100}]}")
	inspect := func(tenant directory.TenantID) error {
		return g.Inspect(&Inspection{
			Request: httptest.NewRequest("POST", "/b", nil), Tenant: tenant, Signup: tenant == 0,
			Body: []byte("a=b"), Whole: true, Log: slog.New(slog.DiscardHandler),
		})
	}
	busy := func(err error) bool { return problem.KindOf(err) == problem.Unavailable }
	release := make(chan struct{})
	var holders sync.WaitGroup
	hold := func(p *places, tenant directory.TenantID) {
		holds := make(chan struct{})
		holders.Go(func() {
			if err := p.do(t.Context(), tenant, func() error { close(holds); <-release; return nil }); err != nil {
				t.Error(err)
			}
		})
		<-holds
	}
	for range g.bodies.share {
		hold(g.bodies, noisy)
	}
	for range cap(g.signups.all) {
		hold(g.signups, 0)
	}
	var waiting sync.WaitGroup
	for range 100 {
		waiting.Go(func() {
			if err := inspect(noisy); !busy(err) {
				t.Errorf("over its share: got %v", err)
			}
		})
	}
	if err := inspect(0); !busy(err) {
		t.Errorf("one sign-up too many: got %v", err)
	}
	if err := inspect(other); busy(err) {
		t.Errorf("another tenant: got %v", err)
	}
	waiting.Wait()
	close(release)
	holders.Wait()
	for range cap(g.bodies.all) {
		g.bodies.all <- struct{}{}
	}
	for _, tenant := range []directory.TenantID{0, noisy} {
		if err := inspect(tenant); busy(err) != (tenant == noisy) {
			t.Errorf("tenant %d, with all places of tenants taken: got %v", tenant, err)
		}
	}
	if n := len(g.bodies.of) + len(g.signups.of); n != 0 {
		t.Errorf("%d owners are remembered", n)
	}
}

// TestAnEncodedBodyDoesNotPass: whichever of the fields says so, for the cell gets all.
func TestAnEncodedBodyDoesNotPass(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "{waf: {mode: block}, routes: [{name: b, prefix: /b, inspect_body: 100}]}")
	for _, tt := range []struct {
		codings []string
		refused bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"identity"}, false},
		{[]string{"identity", ""}, false},
		{[]string{"gzip"}, true},
		{[]string{"identity", "gzip"}, true},
		{[]string{"", "gzip"}, true},
		{[]string{"identity, gzip"}, true},
	} {
		r := httptest.NewRequest("POST", "/b", nil)
		r.Header["Content-Encoding"] = tt.codings
		err := g.Inspect(&Inspection{Request: r, Body: []byte("a=b"), Whole: true, Log: slog.New(slog.DiscardHandler)})
		if got := problem.KindOf(err) == problem.Invalid; got != tt.refused {
			t.Errorf("%q: got %v, want it refused: %v", tt.codings, err, tt.refused)
		}
	}
}

// TestFindingsDoNotFloodTheLog: any number of attacks is a line a second, which holds
// rules and nothing that the client has sent.
func TestFindingsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "waf: {mode: block}")
	var out bytes.Buffer
	r := httptest.NewRequest("GET", attack+"&token=s3cret", nil)
	r.Header.Set("Authorization", "Bearer s3cret")
	r.Header.Set("Cookie", "session=s3cret")
	in := &Inspection{Request: r, ID: "req-1", Whole: true, Tenant: 7, Log: slog.New(slog.NewTextHandler(&out, nil))}
	const n = 50
	for range n {
		if err := g.Inspect(in); err == nil {
			t.Fatal("passed")
		}
	}
	lines := strings.Count(out.String(), "\n")
	if lines >= n/2 {
		t.Errorf("%d lines for %d attacks", lines, n)
	}
	if strings.Contains(out.String(), "s3cret") || strings.Contains(out.String(), "OR") {
		t.Errorf("the log has what was sent: %s", &out)
	}
	if got := testutil.ToFloat64(g.metrics.findings.WithLabelValues("sqli")); got != n {
		t.Errorf("counted %v, want %d", got, n)
	}
}

// TestNotLookingCostsNothing: of requests whose route asks for nothing.
func TestNotLookingCostsNothing(t *testing.T) {
	for name, policy := range map[string]string{
		"nothing is asked for": "tiers: {default: {requests: 10, window: 1s}}",
		"of another route":     "routes: [{name: a, prefix: /v1/a, waf: block}]",
		"over the rate":        "waf: {mode: detect}",
	} {
		g := newGuard(t, policy)
		g.samples.full.Store(g.now() + int64(time.Hour))
		if n := testing.AllocsPerRun(1000, func() {
			if g.Inspects("GET", "/t/acme/v1/b") {
				t.Fatal("looks")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkInspects(b *testing.B) {
	for name, policy := range map[string]string{
		"off": "", "route": "routes: [{name: a, prefix: /v1/a, waf: block}]", "detect": "waf: {mode: detect}",
	} {
		b.Run(name, func(b *testing.B) {
			g := newGuard(b, policy)
			g.samples.full.Store(g.now() + int64(time.Hour))
			for b.Loop() {
				g.Inspects("GET", "/t/acme/v1/b")
			}
		})
	}
}

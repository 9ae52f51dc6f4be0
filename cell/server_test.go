package cell_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/projects"
)

// serving replaces the handler of the projects module.
func serving(f http.HandlerFunc) func(*cell.Options) {
	return func(o *cell.Options) {
		_, routes := o.Modules[1].Routes()
		o.Modules[1] = routed{o.Modules[1], f, routes}
	}
}

func TestAPanicIsA500AndTellsNothing(t *testing.T) {
	t.Parallel()
	h := start(t, serving(func(http.ResponseWriter, *http.Request) { panic("the password is 1234") }))
	r := h.want(500, request{method: "GET", path: "/v1/projects"})
	if got := decode[document](t, r); got.Code != "internal" || strings.Contains(string(r.body), "1234") {
		t.Errorf("got %s", r.body)
	}
	if log := h.log.String(); !strings.Contains(log, "panic: the password is 1234") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log has no cause and stack:\n%s", log)
	}
	h.want(500, keyed("k", `{"name":"x"}`)) // also within a transaction, which is rolled back
}

func TestAPanicWithinAnAnswerCutsItOff(t *testing.T) {
	t.Parallel()
	h := start(t, serving(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("boom")
	}))
	req, err := h.build(request{method: "GET", path: "/v1/projects"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("got the whole answer %q, want an error", body)
	}
}

func TestARequestHasADeadline(t *testing.T) {
	t.Parallel()
	wait := serving(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		cell.Problem(w, r, r.Context().Err())
	})
	h := start(t, wait, func(o *cell.Options) { o.Timeout = 20 * time.Millisecond })
	if got := decode[document](t, h.want(504, request{method: "GET", path: "/v1/projects"})); got.Code != "timeout" {
		t.Errorf("got %+v", got)
	}
}

func TestABodyThatDoesNotArriveIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.Timeout = 50 * time.Millisecond })
	req, err := h.build(request{method: "POST", path: "/v1/projects", body: `{"name":"Moon"}`})
	if err != nil {
		t.Fatal(err)
	}
	stalled, end := io.Pipe()
	defer end.Close()
	req.Body, req.ContentLength = stalled, 15
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 504 {
		t.Errorf("got %d, want 504", resp.StatusCode)
	}
}

func TestADeadDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.createProject(acme, "Moon")
	h.store.Close()
	if got := decode[document](t, h.want(503, request{method: "GET", path: "/v1/projects"})); got.Code != "unavailable" {
		t.Errorf("got %+v", got)
	}
}

// F8: a managed Postgres whose disk is nearly full takes no writes.
func TestADatabaseThatIsReadOnlyIsUnavailableToWrites(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.createProject(acme, "Moon")
	if _, err := h.store.DB().Exec(t.Context(), `ALTER ROLE CURRENT_USER SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	h.store.DB().(*pgxpool.Pool).Reset() // sessions that begin now have it
	got := h.want(503, request{method: "POST", path: "/v1/projects", body: `{"name":"Mars"}`})
	if doc := decode[document](t, got); doc.Code != "unavailable" || got.header.Get("Retry-After") == "" {
		t.Errorf("got %+v, Retry-After %q", doc, got.header.Get("Retry-After"))
	}
	h.want(200, request{method: "GET", path: "/v1/projects"})
}

func TestEveryAnswerSaysWhichContractItKeeps(t *testing.T) {
	t.Parallel()
	h := start(t)
	for path, want := range map[string]int{"/v1/projects": 200, "/nowhere": 404} {
		got := h.want(want, request{method: "GET", path: path}).header.Get("Api-Version")
		if !strings.Contains(string(cell.Contract), "\n  version: '"+got+"'\n") || got == "" {
			t.Errorf("%s: got Api-Version %q, which is not the contract's", path, got)
		}
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.createProject(acme, "Moon")
	h.want(404, request{method: "BREW", path: "/nowhere"})
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(found) > 0 {
		t.Errorf("promlint: %v, %v", found, err)
	}
	var series []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			series = append(series, strings.Join(labels, " "))
		}
	}
	slices.Sort(series)
	want := []string{
		"", "", // open streams, and those that were reset
		"201 POST projects /v1/projects", "404 other none none", // code, method, module, route
		"assertion", "rate", "stale_epoch", "token", // reason
	}
	if !slices.Equal(series, want) {
		t.Errorf("series: got %q, want %q", series, want)
	}
}

func TestOneLogLineSaysWhoseRequestItWas(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	h.want(200, request{method: "GET", path: "/t/acme/v1/projects/" + p.ID, header: map[string]string{"X-Request-Id": "req-7"}})
	lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
	last := lines[len(lines)-1]
	for _, want := range []string{
		`"msg":"request"`, `"tenant":"101"`, `"cell":"c1"`, `"epoch":1`, `"route":"/v1/projects/{project}"`, `"status":200`,
	} {
		if !strings.Contains(last, want) {
			t.Errorf("no %s in %s", want, last)
		}
	}
	if len(lines) != 2 {
		t.Errorf("lines: got %d, want one for each request\n%s", len(lines), h.log.String())
	}
}

func TestAHandlerOutsideOfARequestHasNoTenant(t *testing.T) {
	t.Parallel()
	h := start(t)
	if err := cell.NewDB(h.store).InTenant(context.Background(), nil); err == nil {
		t.Error("a transaction without a tenant")
	}
	var _ cell.Module = projects.New(nil, nil)
}

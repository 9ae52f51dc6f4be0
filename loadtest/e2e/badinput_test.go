package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// TestBadBodies: a body that breaks the contract is refused, says where, and has
// no effect.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(1))
	project(t, tenant, "only")
	for name, tt := range map[string]struct {
		body    string
		kind    problem.Kind
		pointer string
	}{
		"unknown field":  {`{"name":"x","colour":"red"}`, problem.Invalid, "/colour"},
		"missing field":  {`{}`, problem.Invalid, "/name"},
		"wrong type":     {`{"name":7}`, problem.Invalid, "/name"},
		"not JSON":       {`{"name":`, problem.Invalid, ""},
		"two values":     {`{"name":"x"}{"name":"y"}`, problem.Invalid, ""},
		"no body":        {``, problem.Invalid, ""},
		"an array":       {`[]`, problem.Invalid, ""},
		"a name too big": {`{"name":"` + strings.Repeat("x", 201) + `"}`, problem.Invalid, "/name"},
		"a body too big": {`{"name":"` + strings.Repeat("x", 9<<20) + `"}`, problem.TooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, tenant, loadtest.Request{Method: http.MethodPost, Path: "/v1/projects", Body: tt.body})
			wantProblem(t, a, tt.kind)
			if tt.pointer != "" && !mentions(a, `"pointer":"`+tt.pointer+`"`) {
				t.Errorf("no pointer to %s in %s", tt.pointer, a)
			}
		})
	}
	if got := names(t, tenant); len(got) != 1 || events(t, tenant) != 1 {
		t.Errorf("refused requests had an effect: %v", got)
	}
}

// TestBadHeads: a head that is malformed or too large is refused by the router
// and reaches no cell.
func TestBadHeads(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	addr := strings.TrimPrefix(w.State().Routers[0].URL, "http://")
	for name, tt := range map[string]struct {
		head   string
		status []int
	}{
		"no HTTP":              {"HELLO\r\n\r\n", []int{400}},
		"no host":              {"GET /v1/projects HTTP/1.1\r\n\r\n", []int{400}},
		"two hosts":            {"GET /v1/projects HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		"a space in a name":    {"GET /v1/projects HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", []int{400}},
		"two lengths":          {"POST /v1/projects HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", []int{400}},
		"unknown coding":       {"POST /v1/projects HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: zip\r\n\r\n", []int{400, 501}},
		"length is no number":  {"POST /v1/projects HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", []int{400}},
		"a head of a megabyte": {"GET /v1/projects HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", []int{431}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, addr, tt.head)
			for _, s := range tt.status {
				if strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", s)) {
					return
				}
			}
			t.Errorf("got %q, want status %v", got, tt.status)
		})
	}
}

// raw sends bytes and returns the status line of the answer.
func raw(t *testing.T, addr, head string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = conn.Write([]byte(head)) }() // the router may hang up in the middle
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && line == "" {
		return err.Error()
	}
	return line
}

// TestUnknownAndSuspendedTenants: 404 for one that is not there (any more), 403
// for one that is suspended, and back again.
func TestUnknownAndSuspendedTenants(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	open := w.newEdge(t, w.State().Directory.URL, filepath.Join(t.TempDir(), "table"), "ROUTER_AUTH=optional").start()
	for _, r := range []loadtest.Request{
		{Path: "/v1/projects", Host: "no-such-tenant" + baseDomain},
		{Path: "/t/no-such-tenant/v1/projects"},
		{Path: "/v1/projects", Header: http.Header{"X-Tenant": {"no-such-tenant"}}},
	} {
		wantProblem(t, open.ask(r), problem.TenantNotFound)
	}
	tenant := w.tenant(t, w.cell(1))
	project(t, tenant, "kept")
	is := func(kind problem.Kind) {
		t.Helper()
		for n := range w.State().Routers {
			until(t, string(kind), func() bool {
				a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Router: n + 1})
				return a.Problem() == nil && kind == "" || a.Problem() != nil && problem.KindOf(a.Problem()) == kind && a.Status == kind.Status()
			})
		}
	}
	w.operator(t, http.MethodPatch, tenantPath(tenant.ID), map[string]bool{"suspended": true}, nil)
	is(problem.TenantSuspended)
	w.operator(t, http.MethodPatch, tenantPath(tenant.ID), map[string]bool{"suspended": false}, nil)
	is("")
	if got := names(t, tenant); got["kept"] != 1 {
		t.Errorf("after a suspension the tenant has %v", got)
	}
	w.operator(t, http.MethodDelete, tenantPath(tenant.ID), nil, nil)
	is(problem.TenantNotFound)
}

// TestStaleIfMatchAndReusedKey: 412 and 422, and nothing has changed.
func TestStaleIfMatchAndReusedKey(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(2))
	id := project(t, tenant, "first")
	path := "/v1/projects/" + id
	etag := ask(t, tenant, loadtest.Request{Path: path}).Header.Get("ETag")
	patch := func(match, name string) loadtest.Answer {
		r := loadtest.Request{Method: http.MethodPatch, Path: path, Body: map[string]string{"name": name}}
		if match != "" {
			r.Header = http.Header{"If-Match": {match}}
		}
		return ask(t, tenant, r)
	}
	wantStatus(t, patch(etag, "second"), http.StatusOK)
	wantProblem(t, patch(etag, "third"), problem.PreconditionFailed)
	wantProblem(t, patch("", "fourth"), problem.Invalid)
	if got := names(t, tenant); len(got) != 1 || got["second"] != 1 {
		t.Errorf("got %v, want the second name", got)
	}

	make := func(name string) loadtest.Answer {
		return ask(t, tenant, loadtest.Request{Path: "/v1/projects", Key: "once", Body: map[string]string{"name": name}})
	}
	one, again := make("keyed"), make("keyed")
	if again.Status != http.StatusCreated || string(again.Body) != string(one.Body) || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeated write: got %s, want the first answer: %s", again, one)
	}
	wantProblem(t, make("another"), problem.KeyReused)
	if got := names(t, tenant); len(got) != 2 || got["keyed"] != 1 {
		t.Errorf("got %v, want the keyed project once", got)
	}
}

// TestUnknownConfigurationStopsTheStart: a variable that no setting has is an
// error that names it and the nearest that exists.
func TestUnknownConfigurationStopsTheStart(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	r := w.newEdge(t, w.State().Directory.URL, filepath.Join(t.TempDir(), "table"), "ROUTER_LISTEN_ADDRES=127.0.0.1:1")
	r.launch()
	if err := r.exit(); err == nil {
		t.Error("the router started")
	}
	for _, name := range []string{"ROUTER_LISTEN_ADDRES", "ROUTER_LISTEN_ADDR?"} {
		if !strings.Contains(r.logged(), name) {
			t.Errorf("no word of %s in %q", name, r.logged())
		}
	}
	if _, err := os.Stat(filepath.Join(t.TempDir(), "table")); err == nil {
		t.Error("a table file was written")
	}
}

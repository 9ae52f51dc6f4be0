package e2e

import (
	"net/http"
	"testing"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// TestDirectoryDeadAndRouterRestarted: with the directory and its database dead,
// tenants work on, and a router that is killed and started again routes from its
// copy on disk. When the directory is back, changes arrive again.
func TestDirectoryDeadAndRouterRestarted(t *testing.T) {
	w := rough.alone(t)
	c := w.work(t, 1, w.cell(1), w.cell(2), w.cell(3))
	for _, cell := range []int{1, 2, 3} {
		c.more(t, w.cell(cell), 20)
	}
	for _, name := range []string{"directory", "directory-postgres"} {
		if err := w.Kill(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, cell := range []int{1, 2, 3} {
		c.more(t, w.cell(cell), 50)
	}
	c.wantNoFaults(t, w.cell(1), w.cell(2), w.cell(3))

	router := w.State().Routers[0]
	if err := w.Kill(router.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.StartProcess(within(t, patience), router.ID); err != nil {
		t.Fatalf("a router does not start without the directory: %v", err)
	}
	for _, tenant := range c.tenants {
		a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Router: 1})
		wantStatus(t, a, http.StatusOK)
	}

	for _, name := range []string{"directory-postgres", "directory"} {
		if err := w.StartProcess(within(t, patience), name); err != nil {
			t.Fatal(err)
		}
	}
	late := w.tenant(t, w.cell(1)) // waits until both routers know it
	suspend := map[string]bool{"suspended": true}
	w.operator(t, http.MethodPatch, tenantPath(late.ID), suspend, nil)
	for n := range w.State().Routers {
		until(t, "the restarted directory to be followed", func() bool {
			a := ask(t, late, loadtest.Request{Path: "/v1/projects", Router: n + 1})
			return problem.KindOf(a.Problem()) == problem.TenantSuspended
		})
	}
	c.rest(t)
}

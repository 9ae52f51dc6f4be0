package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// TestARevokedKeyIsRefusedEverywhere: the key that an operator makes is good at every router, and
// at none once it is revoked at the directory; the tenant's other key stays good (X11).
func TestARevokedKeyIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(1))
	secrets := map[string]string{}
	for _, name := range []string{"leaked", "kept"} {
		secrets[name] = strings.TrimSpace(string(w.says(t, "key", "create", "--tenant", tenant.Slug, "--name", name)))
	}
	everywhere := func(name string, status int) {
		t.Helper()
		for n := range w.State().Routers {
			until(t, "key "+name, func() bool {
				return ask(t, tenant, loadtest.Request{Path: "/v1/projects", Token: secrets[name], Router: n + 1}).Status == status
			})
		}
	}
	everywhere("leaked", http.StatusOK)
	everywhere("kept", http.StatusOK)

	var keys struct{ Items []directory.Key }
	w.operator(t, http.MethodGet, tenantPath(tenant.ID)+"/keys", nil, &keys)
	began := time.Now()
	for _, k := range keys.Items {
		if k.Name == "leaked" {
			w.operator(t, http.MethodDelete, tenantPath(tenant.ID)+"/keys/"+k.ID, nil, nil)
		}
	}
	everywhere("leaked", http.StatusUnauthorized)
	t.Logf("refused by %d routers %v after it was to be revoked", len(w.State().Routers), time.Since(began))
	for n := range w.State().Routers {
		wantStatus(t, ask(t, tenant, loadtest.Request{Path: "/v1/projects", Token: secrets["kept"], Router: n + 1}), http.StatusOK)
	}
}

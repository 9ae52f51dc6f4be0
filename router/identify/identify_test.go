package identify

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

var now = time.Unix(1_800_000_000, 0)

// world is a chain, and a table with acme (1, also www.acme.com), bolt (2) and a
// deleted tenant (3).
func world(tb testing.TB) (*Chain, *table.View) {
	tb.Helper()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		tb.Fatal(err)
	}
	t := table.New()
	place := func(id int, s directory.State) directory.Placement {
		return directory.Placement{Tenant: directory.TenantID(id), Cell: "c1", Epoch: 1, State: s}
	}
	err = t.Apply(directory.Update{
		Version: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://c1", State: directory.Ready}},
		Routes: []directory.Route{
			{Placement: place(1, directory.Active), Slug: "acme", Hosts: []string{"www.acme.com"}},
			{Placement: place(2, directory.Active), Slug: "bolt"},
			{Placement: place(3, directory.Deleted)},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &Chain{BaseDomain: "cellway.localhost", Keys: keys, Now: func() time.Time { return now }}, t.View()
}

func tenantToken(tb testing.TB, c *Chain, claims token.Claims) string {
	tb.Helper()
	s, err := c.Keys.Issue(claims, now, time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func get(host, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	return r
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	acme := "Bearer " + tenantToken(t, c, token.Claims{Kind: token.Tenant, Tenant: 1, Subject: "ann"})
	gone := "Bearer " + tenantToken(t, c, token.Claims{Kind: token.Tenant, Tenant: 3, Subject: "ann"})
	process := "Bearer " + tenantToken(t, c, token.Claims{Kind: token.Router, Subject: "router-1"})
	const base = "cellway.localhost"
	for name, tt := range map[string]struct {
		r      *http.Request
		tenant directory.TenantID
		source string
		err    error
	}{
		"nothing":                     {get(base, "/"), 0, "", nil},
		"an address":                  {get("127.0.0.1:8080", "/"), 0, "", nil},
		"an IPv6 address":             {get("[::1]:8080", "/"), 0, "", nil},
		"localhost":                   {get("localhost:8080", "/"), 0, "", nil},
		"no host":                     {get("", "/"), 0, "", nil},
		"token":                       {get(base, "/", "Authorization", acme), 1, "token", nil},
		"token, other case of scheme": {get(base, "/", "Authorization", "bEARER"+acme[6:]), 1, "token", nil},
		"sub-domain":                  {get("acme."+base, "/"), 1, "host", nil},
		"sub-domain, odd spelling":    {get("ACME.Cellway.LocalHost.:8080", "/"), 1, "host", nil},
		"own host":                    {get("www.ACME.com:443", "/"), 1, "host", nil},
		"path":                        {get(base, "/t/acme/v1/projects"), 1, "path", nil},
		"path, nothing after":         {get(base, "/t/acme"), 1, "path", nil},
		"header":                      {get(base, "/", "X-Tenant", "acme"), 1, "header", nil},
		"cookie":                      {get(base, "/", "Cookie", "a=b; tenant=acme; c=d"), 1, "cookie", nil},
		"quoted cookie":               {get(base, "/", "Cookie", `tenant="acme"`), 1, "cookie", nil},
		"all of them":                 {get("acme."+base, "/t/acme/", "Authorization", acme, "X-Tenant", "acme", "Cookie", "tenant=acme"), 1, "token", nil},
		"foreign bearer":              {get("acme."+base, "/", "Authorization", "Bearer eyJhbGciOi"), 1, "host", nil},

		"token against host":     {get("bolt."+base, "/", "Authorization", acme), 0, "", problem.TenantConflict},
		"host against path":      {get("bolt."+base, "/t/acme/"), 0, "", problem.TenantConflict},
		"path against header":    {get(base, "/t/bolt/", "X-Tenant", "acme"), 0, "", problem.TenantConflict},
		"header against cookie":  {get(base, "/", "X-Tenant", "acme", "Cookie", "tenant=bolt"), 0, "", problem.TenantConflict},
		"unknown sub-domain":     {get("nobody."+base, "/"), 0, "", problem.TenantNotFound},
		"deep sub-domain":        {get("a.acme."+base, "/"), 0, "", problem.TenantNotFound},
		"unknown host":           {get("www.nobody.com", "/"), 0, "", problem.TenantNotFound},
		"unknown slug":           {get(base, "/", "X-Tenant", "nobody"), 0, "", problem.TenantNotFound},
		"known and unknown":      {get("acme."+base, "/", "X-Tenant", "nobody"), 0, "", problem.TenantNotFound},
		"deleted":                {get(base, "/", "Authorization", gone), 0, "", problem.TenantNotFound},
		"forged token":           {get("acme."+base, "/", "Authorization", acme[:len(acme)-2]+"xx"), 0, "", problem.Unauthenticated},
		"a process's token":      {get("acme."+base, "/", "Authorization", process), 0, "", problem.Unauthenticated},
		"two tokens":             {get(base, "/", "Authorization", acme, "Authorization", acme), 0, "", problem.Invalid},
		"two headers":            {get(base, "/", "X-Tenant", "acme", "X-Tenant", "acme"), 0, "", problem.Invalid},
		"list in header":         {get(base, "/", "X-Tenant", "acme, acme"), 0, "", problem.Invalid},
		"empty header":           {get(base, "/", "X-Tenant", ""), 0, "", problem.Invalid},
		"upper case header":      {get(base, "/", "X-Tenant", "ACME"), 0, "", problem.Invalid},
		"host in header":         {get(base, "/", "X-Tenant", "www.acme.com"), 0, "", problem.Invalid},
		"two cookies":            {get(base, "/", "Cookie", "tenant=acme; tenant=acme"), 0, "", problem.Invalid},
		"two cookie lines":       {get(base, "/", "Cookie", "tenant=acme", "Cookie", "tenant=acme"), 0, "", problem.Invalid},
		"malformed cookie":       {get(base, "/", "Cookie", "tenant=ac me"), 0, "", problem.Invalid},
		"cookie without value":   {get(base, "/", "Cookie", "tenant"), 0, "", problem.Invalid},
		"encoded slug":           {get(base, "/t/ac%6De/"), 0, "", problem.Invalid},
		"encoded prefix":         {get(base, "/%74/acme/"), 0, "", problem.Invalid},
		"encoded slash":          {get(base, "/t/acme%2Fv1"), 0, "", problem.Invalid},
		"upper case path":        {get(base, "/t/ACME/"), 0, "", problem.Invalid},
		"no slug in path":        {get(base, "/t/"), 0, "", problem.Invalid},
		"dots in path":           {get(base, "/t/acme/../bolt/"), 0, "", problem.Invalid},
		"encoded dots in path":   {get(base, "/t/acme/%2e%2e/bolt/"), 0, "", problem.Invalid},
		"dots before path":       {get(base, "/x/../t/acme/"), 0, "", problem.Invalid},
		"two slashes":            {get(base, "//t/acme/"), 0, "", problem.Invalid},
		"backslash":              {get(base, "/t/acme/%5cbolt"), 0, "", problem.Invalid},
		"user in host":           {get("acme@"+base, "/"), 0, "", problem.Invalid},
		"two dots at end":        {get("acme."+base+"..", "/"), 0, "", problem.Invalid},
		"port of letters":        {get("acme."+base+":http", "/"), 0, "", problem.Invalid},
		"zone in host":           {get("[fe80::1%25eth0]", "/"), 0, "", problem.Invalid},
		"letters outside ASCII":  {get("acmé."+base, "/"), 0, "", problem.Invalid},
		"malformed and no token": {get(base, "/", "X-Tenant", "ACME", "Authorization", "Bearer cwt1.x"), 0, "", problem.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.Identify(HeadOf(tt.r), v)
			if !errors.Is(err, tt.err) || got.Entry.Tenant != tt.tenant || got.Source != tt.source {
				t.Errorf("got tenant %d by %q, %v, want tenant %d by %q, %v", got.Entry.Tenant, got.Source, err, tt.tenant, tt.source, tt.err)
			}
		})
	}
}

func TestExplainAsksEverySource(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	got, err := c.Explain(HeadOf(get("bolt.cellway.localhost", "/t/acme/", "X-Tenant", "NO")), v)
	if !errors.Is(err, problem.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
	if len(got.Answers) != len(Sources) {
		t.Fatalf("got %d answers, want %d", len(got.Answers), len(Sources))
	}
	said := map[string]Answer{}
	for _, a := range got.Answers {
		said[a.Source] = a
	}
	if said["host"].Ref.Slug != "bolt" || said["path"].Entry.Tenant != 1 || said["header"].Err == nil || said["cookie"].Ref != (Ref{}) {
		t.Errorf("got %+v", got.Answers)
	}
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	c, v := world(t)
	h := HeadOf(get("acme.cellway.localhost:8080", "/t/acme/v1/projects", "X-Tenant", "acme", "Accept", "*/*", "User-Agent", "test", "Cookie", "a=b"))
	if got := testing.AllocsPerRun(500, func() {
		if _, err := c.Identify(h, v); err != nil {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("got %v allocations", got)
	}
}

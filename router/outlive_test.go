package router_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/certs"
)

// TestNoConnectionOutlivesItsCertificates: a connection to a cell that was opened with a certificate
// that has ended, the cell's or the router's, serves no further request, however busy it is.
func TestNoConnectionOutlivesItsCertificates(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"cell/c1", "router/r1"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			s := newSecure(t, nil)
			cell := s.part(t, certs.RoleCell, "c1")
			s.cell(t, "c1", cell, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }))
			part, role := cell, certs.RoleCell
			if whose == "router/r1" {
				part, role = s.identity, certs.RoleRouter
			}
			go func() { _ = part.Run(t.Context()) }()
			end := func() time.Time {
				v, _ := part.GetX509SVID() // it never fails
				return v.Certificates[0].NotAfter
			}
			issue := func(life time.Duration) {
				t.Helper()
				before := end()
				if err := s.ca.Issue(s.dirs[whose], certs.Request{Role: role, ID: whose[len(role)+1:], Life: life}); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the certificate is read", func() bool { return !end().Equal(before) })
			}
			c := s.over(t, acme, false)
			by := func() string {
				t.Helper()
				a := s.ask(t, c, "GET", acme, "/", nil)
				if a.StatusCode != 200 {
					t.Fatalf("got %d %s", a.StatusCode, a.body)
				}
				return a.body
			}
			issue(5 * time.Second)
			over := end()
			first := by()
			issue(time.Hour)
			eventually(t, "the certificate is over", func() bool { by(); return time.Now().After(over) }) // busy until then
			if by() == first {
				t.Error("a connection is used whose certificate has ended")
			}
			if again := by(); again != by() {
				t.Error("a connection by the next certificate is not kept")
			}
		})
	}
}

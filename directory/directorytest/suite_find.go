package directorytest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func testFindTenants(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	ids := map[string]directory.TenantID{}
	for _, n := range []directory.NewTenant{
		{Slug: "acme", Cell: "c1"},
		{Slug: "acme-2024", Name: "Acme Inc.", Cell: "c2"},
		{Slug: "north", Name: "The Acmeist Company <sales@north.example>", Cell: "c1"},
		{Slug: "rivals", Name: "Rivals' Café, formerly 12/34 1e5 +49", Cell: "c1"},
		{Slug: "pacme", Cell: "c1"},
		{Slug: "gone-acme", Name: "Acme", Cell: "c1"},
	} {
		ids[n.Slug] = s.create(t, n).ID
	}
	if err := s.DeleteTenant(s.ctx, ids["gone-acme"]); err != nil {
		t.Fatalf("delete: %v", err)
	}
	for _, tt := range []struct {
		of   directory.TenantFilter
		want []string
	}{
		{directory.TenantFilter{Name: "acme"}, []string{"acme", "acme-2024", "north"}}, // not in the middle of a word
		{directory.TenantFilter{Name: "ACME inc"}, []string{"acme-2024"}},
		{directory.TenantFilter{Name: "inc acme"}, []string{"acme-2024"}},
		{directory.TenantFilter{Name: "acme", Cell: "c1"}, []string{"acme", "north"}},
		{directory.TenantFilter{Name: "202"}, []string{"acme-2024"}},
		{directory.TenantFilter{Name: "Sales@North"}, []string{"north"}},
		{directory.TenantFilter{Name: "rival's caf"}, nil}, // no word begins with s
		{directory.TenantFilter{Name: "café"}, []string{"rivals"}},
		{directory.TenantFilter{Name: "34"}, []string{"rivals"}},
		{directory.TenantFilter{Name: "1e5 49"}, []string{"rivals"}},
		{directory.TenantFilter{Name: "nobody"}, nil},
		{directory.TenantFilter{Name: "acme:* | north & !('"}, []string{"north"}}, // words, and no language
	} {
		var want, got []directory.TenantID
		for _, slug := range tt.want {
			want = append(want, ids[slug])
		}
		for after, more := directory.TenantID(0), true; more; {
			list, err := s.ListTenants(s.ctx, tt.of, after, 2)
			if err != nil {
				t.Fatalf("find %+v: %v", tt.of, err)
			}
			for _, one := range list {
				got, after = append(got, one.ID), one.ID
			}
			more = len(list) == 2
		}
		wantEqual(t, fmt.Sprintf("found by %+v", tt.of), got, want)
	}
	for _, name := range []string{"-", " ", strings.Repeat("a", 201)} {
		_, err := s.ListTenants(s.ctx, directory.TenantFilter{Name: name}, 0, 10)
		wantKind(t, fmt.Sprintf("find by %q", name), err, problem.Invalid)
	}
}

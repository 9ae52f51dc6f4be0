package directory_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func TestCellStates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to directory.CellState
		want     bool
	}{
		{directory.Provisioning, directory.Ready, true},
		{directory.Provisioning, directory.Draining, false}, // nothing to drain yet
		{directory.Ready, directory.Cordoned, true},
		{directory.Ready, directory.Drained, false},  // only by draining, or cordoned and empty
		{directory.Ready, directory.Retired, false},  // cordon it first
		{directory.Cordoned, directory.Ready, true},  // uncordon
		{directory.Draining, directory.Ready, true},  // the drain is called off
		{directory.Drained, directory.Retired, true}, // the usual end
		{directory.Quarantine, directory.Draining, true},
		{directory.Retired, directory.Ready, false}, // the end is the end
		{directory.Retired, directory.Provisioning, false},
		{"asleep", directory.Ready, false},
	} {
		if got := tt.from.CanBecome(tt.to); got != tt.want {
			t.Errorf("%s to %s: got %v, want %v", tt.from, tt.to, got, tt.want)
		}
	}
	for _, s := range []directory.CellState{directory.Provisioning, directory.Ready, directory.Cordoned, directory.Draining, directory.Drained, directory.Quarantine, directory.Retired} {
		if !s.Valid() {
			t.Errorf("%s: got not valid", s)
		}
		if s.CanBecome(s) {
			t.Errorf("%s to itself: got a transition", s)
		}
		if got := s.TakesTenants(); got != (s == directory.Ready) {
			t.Errorf("%s takes tenants: got %v", s, got)
		}
	}
	if directory.CellState("asleep").Valid() {
		t.Error("asleep: got valid")
	}
}

func TestParseTenantID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]directory.TenantID{
		"1": 1, "9223372036854775807": 1<<63 - 1,
		"": 0, "0": 0, "-1": 0, "+1": 0, "01": 0, " 1": 0, "1e3": 0, "0x1": 0, "9223372036854775808": 0, "acme": 0, "１": 0,
	} {
		got, err := directory.ParseTenantID(in)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("parse %q: got %d, %v, want %d", in, got, err, want)
		}
		if err != nil && !errors.Is(err, problem.Invalid) {
			t.Errorf("parse %q: got %v, want invalid", in, err)
		}
		if err == nil && got.String() != in {
			t.Errorf("string of %d: got %s", got, got)
		}
	}
}

func TestNewTenantValidate(t *testing.T) {
	t.Parallel()
	many := make([]string, 21)
	for i := range many {
		many[i] = string(rune('a'+i)) + ".test"
	}
	for _, tt := range []struct {
		in      directory.NewTenant
		pointer string // of the first finding; "" is none
	}{
		{directory.NewTenant{Slug: "a"}, ""},
		{directory.NewTenant{Slug: "a-1", Name: "Ünï & Co", Locality: "eu-1", Tier: "gold", Cell: "c1", Hosts: []string{"a.test", "b.a.test"}}, ""},
		{directory.NewTenant{Slug: strings.Repeat("a", 40)}, ""},
		{directory.NewTenant{Slug: strings.Repeat("a", 41)}, "/slug"},
		{directory.NewTenant{}, "/slug"},
		{directory.NewTenant{Slug: "1a"}, "/slug"}, // or it could be taken for an id
		{directory.NewTenant{Slug: "a-"}, "/slug"},
		{directory.NewTenant{Slug: "a.b"}, "/slug"}, // it becomes a label of a host name
		{directory.NewTenant{Slug: "a\n"}, "/slug"},
		{directory.NewTenant{Slug: "www"}, "/slug"},
		{directory.NewTenant{Slug: "xn--pple-43d"}, "/slug"}, // browsers show it as a twin of apple
		{directory.NewTenant{Slug: "ab--c"}, "/slug"},
		{directory.NewTenant{Slug: "ab-c--d"}, ""},
		{directory.NewTenant{Slug: "a", Name: strings.Repeat("x", 201)}, "/name"},
		{directory.NewTenant{Slug: "a", Name: "a\x00"}, "/name"},
		{directory.NewTenant{Slug: "a", Name: "a\xff"}, "/name"},
		{directory.NewTenant{Slug: "a", Locality: "EU"}, "/locality"},
		{directory.NewTenant{Slug: "a", Tier: "gold plated"}, "/tier"},
		{directory.NewTenant{Slug: "a", Cell: "C1"}, "/cell"},
		{directory.NewTenant{Slug: "a", Hosts: many}, "/hosts"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"a.test", "A.test"}}, "/hosts/1"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"localhost"}}, "/hosts/0"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"a.test."}}, "/hosts/0"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"10.0.0.1"}}, "/hosts/0"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"a.test:80"}}, "/hosts/0"},
		{directory.NewTenant{Slug: "a", Hosts: []string{"a.test", "a.test"}}, "/hosts/1"},
	} {
		checkFinding(t, tt.in, tt.in.Validate(), tt.pointer)
	}
}

// checkFinding compares where err says that in is wrong.
func checkFinding(t *testing.T, in any, err error, pointer string) {
	t.Helper()
	if pointer == "" {
		if err != nil {
			t.Errorf("%+v: got %v, want it valid", in, err)
		}
		return
	}
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || e.Kind != problem.Invalid || len(e.Fields) == 0 || e.Fields[0].Pointer != pointer || e.Fields[0].Detail == "" {
		t.Errorf("%+v: got %v, want invalid at %s", in, err, pointer)
	}
}

func TestOtherValidates(t *testing.T) {
	t.Parallel()
	good := directory.Cell{ID: "c1", Address: "http://c1", Capacity: 1, Incarnation: "db"}
	for pointer, change := range map[string]func(*directory.Cell){
		"":             func(*directory.Cell) {},
		"/id":          func(c *directory.Cell) { c.ID = "1c" },
		"/address":     func(c *directory.Cell) { c.Address = "ftp://c1" },
		"/admin":       func(c *directory.Cell) { c.Admin = "a\nb" },
		"/capacity":    func(c *directory.Cell) { c.Capacity = -1 },
		"/state":       func(c *directory.Cell) { c.State = directory.Retired },
		"/locality":    func(c *directory.Cell) { c.Locality = "-" },
		"/tier":        func(c *directory.Cell) { c.Tier = "Gold" },
		"/incarnation": func(c *directory.Cell) { c.Incarnation = strings.Repeat("x", 101) },
	} {
		c := good
		change(&c)
		checkFinding(t, c, c.Validate(), pointer)
	}
	for address, pointer := range map[string]string{
		"http://127.0.0.1:7101": "", "https://[::1]:7101": "", "http://c1.cells.test": "",
		"http://0.0.0.0:7101": "/address", "http://0.0.0.0": "/address", "https://[::]:7101": "/address",
		"http://[::ffff:0.0.0.0]:7101": "/address", "http://:7101": "/address", "http://c1:port": "/address",
	} {
		c := good
		c.Address = address
		checkFinding(t, c, c.Validate(), pointer)
	}
	long := strings.Repeat("x", 201)
	checkFinding(t, "change", directory.Change{Name: &long}.Validate(), "/name")
	checkFinding(t, "change", directory.Change{Hosts: &[]string{"x"}}.Validate(), "/hosts/0")
	checkFinding(t, "change", directory.Change{}.Validate(), "")
	checkFinding(t, "claim", directory.Claim{Kind: "login", Name: "ann", Tenant: 1}.Validate(), "")
	checkFinding(t, "claim", directory.Claim{Kind: "host", Name: "a.test", Tenant: 1}.Validate(), "/kind")
	checkFinding(t, "claim", directory.Claim{Kind: "login", Name: strings.Repeat("x", 256), Tenant: 1}.Validate(), "/name")
	checkFinding(t, "claim", directory.Claim{Kind: "login", Name: "ann"}.Validate(), "/tenant")
	checkFinding(t, "placement", directory.Placement{Tenant: 1, Cell: "c1", Epoch: 2, State: directory.Active}.Validate(), "")
	checkFinding(t, "placement", directory.Placement{Tenant: 1, Cell: "c1", Epoch: 2, State: directory.Deleted}.Validate(), "/state")
	checkFinding(t, "placement", directory.Placement{Tenant: 1, Cell: "c1", Epoch: 1, State: directory.Active}.Validate(), "/epoch")
	checkFinding(t, "limit", directory.CheckLimit(0), "query/limit")
	checkFinding(t, "limit", directory.CheckLimit(1000), "")
	checkFinding(t, "router", directory.CheckRouter("router-1.eu_2"), "")
	checkFinding(t, "router", directory.CheckRouter("a b"), "query/router")
}

func TestShown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		owned     directory.State
		suspended bool
		want      directory.State
	}{
		{directory.Active, false, directory.Active},
		{directory.Cutover, false, directory.Cutover},
		{directory.Active, true, directory.Suspended},
		{directory.Cutover, true, directory.Suspended},
		{directory.Deleted, true, directory.Deleted}, // gone is gone
	} {
		if got := directory.Shown(tt.owned, tt.suspended); got != tt.want {
			t.Errorf("%s, suspended %v: got %s, want %s", tt.owned, tt.suspended, got, tt.want)
		}
	}
}

func TestChooseCell(t *testing.T) {
	t.Parallel()
	mk := func(id directory.CellID, change func(*directory.Cell)) directory.Cell {
		c := directory.Cell{ID: id, State: directory.Ready, Healthy: true, Capacity: 100, Locality: "eu", Tier: "gold"}
		if change != nil {
			change(&c)
		}
		return c
	}
	cells := []directory.Cell{
		mk("b", func(c *directory.Cell) { c.Tenants = 10 }),
		mk("a", func(c *directory.Cell) { c.Tenants = 10 }),
		mk("big", func(c *directory.Cell) { c.Tenants, c.Capacity = 30, 400 }), // 7.5 %
		mk("sick", func(c *directory.Cell) { c.Healthy = false }),
		mk("shut", func(c *directory.Cell) { c.State = directory.Cordoned }),
		mk("jail", func(c *directory.Cell) { c.State = directory.Quarantine }),
		mk("full", func(c *directory.Cell) { c.Tenants = 100 }),
		mk("us", func(c *directory.Cell) { c.Locality, c.Tier = "us", "" }),
		mk("gone", func(c *directory.Cell) { c.State = directory.Retired }),
	}
	for _, tt := range []struct {
		want directory.NewTenant
		cell directory.CellID
		kind error
	}{
		{directory.NewTenant{}, "us", nil}, // empty, so the least loaded
		{directory.NewTenant{Locality: "eu"}, "big", nil},
		{directory.NewTenant{Tier: "gold"}, "big", nil},
		{directory.NewTenant{Locality: "us"}, "us", nil},
		{directory.NewTenant{Locality: "us", Tier: "gold"}, "", problem.Conflict},
		{directory.NewTenant{Cell: "a"}, "a", nil},
		{directory.NewTenant{Cell: "jail"}, "jail", nil},
		{directory.NewTenant{Cell: "sick"}, "sick", nil}, // an operator's word counts
		{directory.NewTenant{Cell: "shut"}, "", problem.Conflict},
		{directory.NewTenant{Cell: "full"}, "", problem.Conflict},
		{directory.NewTenant{Cell: "us", Locality: "eu"}, "", problem.Conflict},
		{directory.NewTenant{Cell: "gone"}, "", problem.NotFound},
		{directory.NewTenant{Cell: "nowhere"}, "", problem.NotFound},
	} {
		got, err := directory.ChooseCell(tt.want, cells)
		if got != tt.cell || !errors.Is(err, tt.kind) {
			t.Errorf("%+v: got %q, %v, want %q, %v", tt.want, got, err, tt.cell, tt.kind)
		}
	}
	got, err := directory.ChooseCell(directory.NewTenant{}, cells[:2])
	if got != "a" || err != nil {
		t.Errorf("a tie: got %q, %v, want the lower id", got, err)
	}
	if _, err := directory.ChooseCell(directory.NewTenant{}, nil); !errors.Is(err, problem.Conflict) {
		t.Errorf("no cells: got %v, want conflict", err)
	}
}

// TestChooseCellProperties: the choice takes tenants, has room, fits, and no
// cell that does so has a smaller share of its capacity in use; the order of the
// cells does not matter.
func TestChooseCellProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.SampledFrom([]string{"", "x", "y"})
		var cells []directory.Cell
		for i := range rapid.IntRange(0, 6).Draw(t, "cells") {
			cells = append(cells, directory.Cell{
				ID:      directory.CellID(string(rune('a' + i))),
				State:   rapid.SampledFrom([]directory.CellState{directory.Ready, directory.Cordoned, directory.Quarantine}).Draw(t, "state"),
				Healthy: rapid.Bool().Draw(t, "healthy"), Locality: label.Draw(t, "locality"), Tier: label.Draw(t, "tier"),
				Capacity: rapid.IntRange(1, 5).Draw(t, "capacity"), Tenants: rapid.IntRange(0, 6).Draw(t, "tenants"),
			})
		}
		want := directory.NewTenant{Locality: label.Draw(t, "wanted locality"), Tier: label.Draw(t, "wanted tier")}
		may := func(c directory.Cell) bool {
			return c.State == directory.Ready && c.Healthy && c.Tenants < c.Capacity &&
				(want.Locality == "" || want.Locality == c.Locality) && (want.Tier == "" || want.Tier == c.Tier)
		}
		id, err := directory.ChooseCell(want, cells)
		i := slices.IndexFunc(cells, func(c directory.Cell) bool { return c.ID == id })
		if err != nil {
			if slices.ContainsFunc(cells, may) {
				t.Fatalf("got %v for %+v though a cell of %+v may", err, want, cells)
			}
			return
		}
		chosen := cells[i]
		if !may(chosen) {
			t.Fatalf("got %+v for %+v", chosen, want)
		}
		for _, c := range cells {
			if may(c) && float64(c.Tenants)/float64(c.Capacity) < float64(chosen.Tenants)/float64(chosen.Capacity)-1e-9 {
				t.Fatalf("got %+v, %+v is less loaded", chosen, c)
			}
		}
		turned := slices.Clone(cells)
		slices.Reverse(turned)
		if again, err := directory.ChooseCell(want, turned); err != nil || again != id {
			t.Fatalf("in another order: got %q, %v, want %q", again, err, id)
		}
	})
}

func TestMembersIndex(t *testing.T) {
	t.Parallel()
	a, b := directory.Member{ID: "a", Address: "x"}, directory.Member{ID: "a", Incarnation: "x"}
	seen := map[uint64]bool{}
	for _, set := range [][]directory.Member{nil, {a}, {b}, {a, b}, {b, a}} {
		i := directory.MembersIndex(set)
		if i == 0 || seen[i] || i != directory.MembersIndex(slices.Clone(set)) {
			t.Errorf("index of %v: got %d, zero or another set's", set, i)
		}
		seen[i] = true
	}
}

func TestActor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, tt := range []struct {
		ctx  context.Context
		want string
	}{{ctx, "unknown"}, {directory.WithActor(ctx, ""), "unknown"}, {directory.WithActor(ctx, "ann"), "ann"}} {
		if got := directory.Actor(tt.ctx); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

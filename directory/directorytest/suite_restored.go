package directorytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Restorable is a Directory whose database a test replaces.
type Restorable struct {
	directory.Directory
	// Restored makes the record, as it is, that of another database than before.
	Restored func(t *testing.T)
	// Later has d pass, as far as the record's database is concerned.
	Later func(t *testing.T, d time.Duration)
}

// RunRestored holds a Directory to what the contract says of a record whose database is
// another one than before. open gives a fresh, empty one.
func RunRestored(t *testing.T, open func(t *testing.T) Restorable) {
	for name, test := range map[string]func(*testing.T, *suite, Restorable){
		"Lift": testLiftRestored, "Cells": testCellsRestored, "RolledOut": testAnnounced,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			r := open(t)
			test(t, &suite{Directory: r, ctx: directory.WithActor(ctx, Actor)}, r)
		})
	}
}

// testLiftRestored: only a record that has changed its database goes on above its routers'
// tables. One that a failover left behind has not.
func testLiftRestored(t *testing.T, s *suite, r Restorable) {
	s.add(t, cell("c1"))
	s.create(t, directory.NewTenant{Slug: "a"})
	ahead := func(what string, since, version directory.Version) {
		t.Helper()
		_, err := s.Changes(s.ctx, "r1", since, 0)
		wantKind(t, what, err, problem.Gone)
		if got := s.snapshot(t).Version; got != version || errors.Is(err, directory.ErrLifted) != (version > since) {
			t.Errorf("%s: at version %d, %v, want %d", what, got, err, version)
		}
	}
	ahead("as it begins", 7, 7+directory.MarginVersions)
	r.Later(t, directory.LiftWithin)
	ahead("left behind", 2000, 7+directory.MarginVersions)
	r.Restored(t)
	ahead("restored", 2000, 2000+directory.MarginVersions)
	r.Later(t, directory.LiftPause)
	ahead("a router with more", 4000, 4000+directory.MarginVersions)
	r.Later(t, directory.LiftWithin)
	ahead("left behind again", 6000, 4000+directory.MarginVersions)
}

// testCellsRestored: what a backup says of where a cell is counts where nobody knows better.
func testCellsRestored(t *testing.T, s *suite, r Restorable) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	s.create(t, directory.NewTenant{Slug: "a"})
	s.beat(t, "c1", nil)
	r.Restored(t)
	if _, err := s.Changes(s.ctx, "r1", 7, 0); !errors.Is(err, problem.Gone) {
		t.Fatalf("ahead: got %v, want gone", err)
	}
	for _, c := range s.snapshot(t).Cells {
		if !c.Unheard || c.Address == "" {
			t.Errorf("restored: got %+v, want it unheard of", c)
		}
	}
	s.beat(t, "c1", problem.NotFound)
	s.expect(t, "the same address", 1, 1, func() error { s.add(t, cell("c1")); return nil })
	s.expect(t, "and again", 0, 0, func() error { s.add(t, cell("c1")); return nil })
	s.beat(t, "c1", nil)
	s.beat(t, "c2", problem.NotFound)
	moved := cell("c2")
	moved.Address = "http://elsewhere.test"
	if c := s.add(t, moved); c.Address != moved.Address || c.Unheard {
		t.Errorf("got %+v, want it at %s", c, moved.Address)
	}
	s.beat(t, "c2", nil)
	for _, c := range s.snapshot(t).Cells {
		if c.Unheard {
			t.Errorf("all have been heard: got %+v", c)
		}
	}
}

// beat is a heartbeat that ends with kind, or well.
func (s *suite) beat(t *testing.T, id directory.CellID, kind error) {
	t.Helper()
	if err := s.Heartbeat(s.ctx, id, "db-"+string(id)); !errors.Is(err, kind) {
		t.Errorf("heartbeat of %s: got %v, want %v", id, err, kind)
	}
}

// testAnnounced: what a cell says counts where it is another thing than it said before.
func testAnnounced(t *testing.T, s *suite, _ Restorable) {
	known := cell("c1")
	known.Incarnation = ""
	s.add(t, known)
	runs := cell("c1")
	runs.Address = "http://runs.test"
	if c := s.add(t, runs); c.Address != runs.Address || c.Announced != runs.Address {
		t.Errorf("the cell itself: got %+v, want it at %s", c, runs.Address)
	}
	runs.Address = "http://moved.test"
	if c := s.add(t, runs); c.Address != runs.Address {
		t.Errorf("another address: got %+v, want it at %s", c, runs.Address)
	}
}

package table

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// packed is a table of n tenants in a base, saved, with a change on top that is saved too.
func packed(t *testing.T, n int) (*Table, *Disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	tab := New()
	tab.packFrom = 10
	u := directory.Update{Version: 10, Cells: cells("c1", "c2")}
	for i := 1; i <= n; i++ {
		u.Routes = append(u.Routes, route(i*3, "c1", i%5+1, slug(i), fmt.Sprintf("www.t%d.test", i)))
	}
	apply(t, tab, u)
	d := NewDisk(path, "here", tab, quiet())
	save(t, d)
	apply(t, tab, delta(10, 11, route(3, "c2", 9, slug(1)), route(1, "c2", 1, "new")))
	save(t, d)
	return tab, d, path
}

func save(t *testing.T, d *Disk) {
	t.Helper()
	if err := d.save(d.table.View()); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, path, owner string) (*Table, string, error) {
	t.Helper()
	var log bytes.Buffer
	tab := New()
	err := NewDisk(path, owner, tab, slog.New(slog.NewTextHandler(&log, nil))).Load(t.Context())
	return tab, log.String(), err
}

func wantPlace(t *testing.T, v *View, name, cell string) {
	t.Helper()
	e, ok := v.BySlug(name)
	if !ok && cell != "" || ok && string(e.Cell) != cell {
		t.Errorf("%s: got %+v, %v, want cell %q", name, e, ok, cell)
	}
	if ok {
		if by, _ := v.ByID(e.Tenant); by != e {
			t.Errorf("%s by its number: got %+v, want %+v", name, by, e)
		}
	}
}

func TestABaseAndItsChangesComeBackFromDisk(t *testing.T) {
	t.Parallel()
	tab, d, path := packed(t, 1000)
	if info, err := os.Stat(path + changes); err != nil || info.Size() > 4096 {
		t.Errorf("the changes' file: %v, %v, want a small one", info, err)
	}
	again, _, err := load(t, path, "here")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []*View{tab.View(), again.View()} {
		wantPlace(t, v, slug(1), "c2")
		wantPlace(t, v, slug(1000), "c1")
		wantPlace(t, v, "new", "c2")
		wantPlace(t, v, "nobody", "")
		if _, ok := v.ByHost("www.t1.test"); ok {
			t.Error("a host that was given up is found")
		}
		if e, ok := v.ByHost("www.t7.test"); !ok || e.Tenant != 21 || v.Tenants() != 1001 || v.Version() != 11 {
			t.Errorf("got %+v, %v, %d tenants at %d", e, ok, v.Tenants(), v.Version())
		}
		if _, ok := v.ByID(4); ok {
			t.Error("a number between two tenants is found")
		}
	}
	if d.speedUp(); tab.View().base == again.View().base || !d.fast {
		t.Error("the base is not in huge pages")
	}
	wantPlace(t, tab.View(), slug(1000), "c1")
	if err := tab.pack(); err != nil {
		t.Fatal(err)
	}
	save(t, d)
	if again, _, err = load(t, path, "here"); err != nil || len(again.View().segments) != 0 {
		t.Fatalf("after packing: %v, %d segments", err, len(again.View().segments))
	}
	wantPlace(t, again.View(), slug(1), "c2")
	wantPlace(t, again.View(), "new", "c2")
}

// TestF16ABadFileIsRefused spoils each file in each way: the last good table is
// served, and the refusal is counted.
func TestF16ABadFileIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b []byte) []byte{
		"a flipped bit":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut short":      func(b []byte) []byte { return b[:len(b)/2] },
		"empty":          func([]byte) []byte { return nil },
		"an old version": func(b []byte) []byte { b[len(magic)]--; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, suffix := range []string{"", changes} {
				_, _, path := packed(t, 100)
				b, err := os.ReadFile(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				for _, kept := range []string{"", changes} { // an older pair, as the one before
					o, _ := os.ReadFile(path + kept)
					_ = os.WriteFile(path+before+kept, o, 0o600)
				}
				if err := os.WriteFile(path+suffix, spoil(b), 0o600); err != nil {
					t.Fatal(err)
				}
				again, log, err := load(t, path, "here")
				if err != nil || again.RefusedFiles() != 1 || !strings.Contains(log, "table file refused") {
					t.Fatalf("%q: %v, %d refused, log %s", suffix, err, again.RefusedFiles(), log)
				}
				wantPlace(t, again.View(), slug(100), "c1")
			}
		})
	}
	t.Run("another installation's", func(t *testing.T) {
		t.Parallel()
		_, _, path := packed(t, 100)
		if again, _, err := load(t, path, "there"); !errors.Is(err, problem.Invalid) || again.Loaded() {
			t.Errorf("got %v, loaded %v, want it refused", err, again.Loaded())
		}
	})
}

// TestReadersOutliveTheirMapping replaces bases, and lets the collector unmap
// them, under readers that hold old views.
func TestReadersOutliveTheirMapping(t *testing.T) {
	t.Parallel()
	tab, d, _ := packed(t, 500)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := 1; ; i = i%499 + 1 {
				select {
				case <-stop:
					return
				default:
				}
				v := tab.View()
				if e, ok := v.BySlug(slug(i + 1)); !ok || e.Tenant != directory.TenantID(3*(i+1)) {
					t.Errorf("%s: got %+v, %v", slug(i+1), e, ok)
					return
				}
			}
		})
	}
	for range 20 {
		if err := tab.pack(); err != nil {
			t.Error(err)
		}
		save(t, d)
		d.speedUp()
		runtime.GC()
	}
	close(stop)
	readers.Wait()
}

func TestASnapshotWithANameTwiceIsRefused(t *testing.T) {
	t.Parallel()
	tab := New()
	tab.packFrom = 1
	err := tab.Apply(directory.Update{Version: 1, Cells: cells("c1"), Routes: []directory.Route{route(1, "c1", 1, "a"), route(2, "c1", 1, "a")}})
	if !errors.Is(err, problem.Invalid) || tab.Loaded() {
		t.Errorf("got %v, loaded %v, want it refused", err, tab.Loaded())
	}
}

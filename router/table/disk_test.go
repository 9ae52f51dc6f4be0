package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/cellway/cellway/directory"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// encoded is loaded's table with a change on top, as a file.
func encoded(tb testing.TB) []byte {
	tb.Helper()
	tab := loaded(tb)
	apply(tb, tab, delta(10, 11, route(3, "c1", 1, "crow", "crow.example")))
	var b bytes.Buffer
	if err := tab.View().encode(&b, "", true); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestDiskKeepsTheTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	tab := loaded(t)
	d := NewDisk(path, "", tab, quiet())
	if err := d.save(tab.View()); err != nil {
		t.Fatal(err)
	}
	apply(t, tab, delta(10, 11, route(3, "c1", 1, "crow")))
	if err := d.save(tab.View()); err != nil {
		t.Fatal(err)
	}

	again := New()
	if err := NewDisk(path, "", again, quiet()).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := again.View()
	if e, ok := v.BySlug("crow"); !ok || e.Address != "http://c1" {
		t.Errorf("crow: got %+v, %v", e, ok)
	}
	if v.Version() != 11 || v.Source() != FromDisk || v.Tenants() != 3 {
		t.Errorf("got version %d from %s with %d tenants", v.Version(), v.Source(), v.Tenants())
	}
	if !again.Confirmed().IsZero() {
		t.Error("the directory has confirmed nothing yet")
	}
	apply(t, again, delta(11, 11))
	if again.View().Source() != FromDirectory || again.Confirmed().IsZero() {
		t.Error("a confirmed table is still the disk's")
	}
	apply(t, again, delta(11, 12, route(4, "c2", 1, "dove"))) // it goes on from there
	if _, ok := again.View().BySlug("dove"); !ok {
		t.Error("dove is not found")
	}
}

// TestAFailedWriteIsNotTheLast: the file that a failed write was to replace is the
// previous one already when it is tried again, and that must not end saving for good.
func TestAFailedWriteIsNotTheLast(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	tab := loaded(t)
	d := NewDisk(path, "", tab, quiet())
	save(t, d)
	apply(t, tab, delta(10, 11, route(3, "c1", 1, "crow")))
	if err := os.Mkdir(path+".tmp", 0o700); err != nil { // as a full disk would
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp/x", nil, 0o600); err != nil { // so that nobody removes it
		t.Fatal(err)
	}
	if err := d.save(tab.View()); err == nil {
		t.Fatal("saved where nothing can be written")
	}
	if err := os.RemoveAll(path + ".tmp"); err != nil {
		t.Fatal(err)
	}
	for version := 11; version <= 13; version++ {
		save(t, d)
		apply(t, tab, delta(version, version+1, route(version, "c1", 1, slug(version))))
	}
	save(t, d)
	for file, want := range map[string]directory.Version{path: 14, path + before: 13} {
		again := New()
		if err := NewDisk(file, "", again, quiet()).Load(t.Context()); err != nil || again.View().Version() != want {
			t.Errorf("%s: got version %d, %v, want %d", file, again.View().Version(), err, want)
		}
	}
}

func TestLoadFallsBackToThePreviousFile(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b []byte) []byte{
		"a flipped bit":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut short":         func(b []byte) []byte { return b[:len(b)-7] },
		"empty":             func([]byte) []byte { return nil },
		"another file":      func([]byte) []byte { return []byte(strings.Repeat("not a table ", 100)) },
		"a newer format":    func(b []byte) []byte { b[len(magic)]++; return b },
		"more at its end":   func(b []byte) []byte { return append(b, 0) },
		"a lying head":      func(b []byte) []byte { return resum(set32(b, headSize-4, 1<<31)) },
		"a lying cell list": func(b []byte) []byte { return resum(set32(b, headSize-8, 60000)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "table")
			tab := loaded(t)
			d := NewDisk(path, "", tab, quiet())
			for v := 10; v < 12; v++ {
				if err := d.save(tab.View()); err != nil {
					t.Fatal(err)
				}
				apply(t, tab, delta(v, v+1))
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}

			var log bytes.Buffer
			again := New()
			d = NewDisk(path, "", again, slog.New(slog.NewTextHandler(&log, nil)))
			if err := d.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			if v := again.View().Version(); v != 10 {
				t.Errorf("got version %d, want the previous file's 10", v)
			}
			if !strings.Contains(log.String(), "table file refused") {
				t.Errorf("no line says why: %s", &log)
			}
			// The next save must not make the bad file the previous one.
			if err := d.save(again.View()); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{path, path + ".prev"} {
				if _, err := d.read(p); err != nil {
					t.Errorf("after the next save: %v", err)
				}
			}
		})
	}
}

func TestLoadWithoutAFile(t *testing.T) {
	t.Parallel()
	tab := New()
	err := NewDisk(filepath.Join(t.TempDir(), "table"), "", tab, quiet()).Load(t.Context())
	if !errors.Is(err, fs.ErrNotExist) || tab.Loaded() {
		t.Errorf("got %v, loaded %v, want not exist", err, tab.Loaded())
	}
}

func TestLoadWithNothingGood(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	tab := New()
	err := NewDisk(path, "", tab, quiet()).Load(t.Context())
	if err == nil || errors.Is(err, fs.ErrNotExist) || tab.Loaded() {
		t.Errorf("got %v, loaded %v, want a refusal", err, tab.Loaded())
	}
}

func TestRunSavesOnStop(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	tab := New()
	d := NewDisk(path, "", tab, quiet())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for v := range 20 {
		apply(t, tab, directory.Update{Version: directory.Version(v + 1), Cells: cells("c1"), Routes: []directory.Route{route(1, "c1", v+1, "acme")}})
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	again := New()
	if err := NewDisk(path, "", again, quiet()).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := again.View().Version(); v != 20 {
		t.Errorf("got version %d on disk, want 20", v)
	}
}

func TestRunSavesChangesWhileItRuns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	tab := New()
	d := NewDisk(path, "", tab, quiet())
	go func() { _ = d.Run(t.Context()) }()
	apply(t, tab, directory.Update{Version: 1})
	reader := NewDisk(path, "", New(), quiet())
	for deadline := time.Now().Add(20 * time.Second); ; {
		if v, err := reader.read(path); err == nil && v.Version() == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the table was not saved")
		}
		wait(t.Context(), time.Millisecond)
	}
}

func set32(b []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

// resum makes the checksum and the size right again.
func resum(b []byte) []byte {
	if len(b) < headSize+sumSize {
		return b
	}
	binary.LittleEndian.PutUint64(b[len(magic)+4:], uint64(len(b)))
	binary.LittleEndian.PutUint64(b[len(b)-sumSize:], xxhash.Sum64(b[:len(b)-sumSize]))
	return b
}

// FuzzDecode: a file is refused or it is a table that answers; it never panics,
// hangs or allocates without measure. The checksum is made right, so that what
// is behind it is tried too.
func FuzzDecode(f *testing.F) {
	good := encoded(f)
	f.Add(good, true)
	f.Add(good, false)
	f.Add(good[:40], true)
	f.Add(set32(bytes.Clone(good), headSize-4, 0), true)
	seed := New().seed
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			b = resum(bytes.Clone(b))
		}
		v, id, err := decode(b, "", seed)
		if err != nil {
			return
		}
		if v.base == nil && id != ([16]byte{}) {
			return // changes on top of a base that is elsewhere
		}
		for _, s := range v.segments {
			for r, names := range s.each {
				if _, ok := v.ByID(r.id()); !ok {
					t.Errorf("tenant %d is in the file and not found", r.id())
				}
				for name := range namesAt(names) {
					v.byName(string(name))
				}
			}
		}
		var out bytes.Buffer
		if err := v.encode(&out, "", true); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Errorf("a file that was read is written differently (%v)", err)
		}
	})
}

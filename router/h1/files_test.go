package h1

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// idles is a Keeper that has so many.
type idles struct {
	files *Files
	left  atomic.Int64
}

func (k *idles) DropIdle() int {
	for n := k.left.Load(); n > 0; n = k.left.Load() {
		if k.left.CompareAndSwap(n, n-1) { // never below 0: who looks then would miss one that comes
			k.files.give()
			return 1
		}
	}
	return 0
}

// keep makes so many connections that are idle.
func keep(t *testing.T, f *Files, n int64) *idles {
	t.Helper()
	k := &idles{files: f}
	for range n {
		if _, err := f.make(noConn); err != nil {
			t.Fatal(err)
		}
	}
	k.left.Store(n)
	f.Join(k)
	return k
}

// unused is a connection that is only counted.
type unused struct{ net.Conn }

func (unused) Close() error { return nil }

func noConn() (net.Conn, error) { return unused{}, nil }

func TestFilesTakeFromWhatIsIdle(t *testing.T) {
	t.Parallel()
	f := NewFiles(5)
	gone, kept := keep(t, f, 2), keep(t, f, 2)
	f.Leave(gone)
	for range 3 { // the one that is free, and kept's
		if _, err := f.make(noConn); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.make(func() (net.Conn, error) { t.Error("it was dialled"); return nil, nil })
	if open, _, dropped, refused := f.Counts(); !errors.Is(err, ErrNoFiles) || open != 5 || dropped != 2 || refused != 1 || kept.left.Load() != 0 {
		t.Errorf("got %v with %d open, %d dropped, %d refused", err, open, dropped, refused)
	}
}

// TestFilesOutOfDescriptors: each refusal of the kernel's costs an idle connection,
// and without one there is no other attempt.
func TestFilesOutOfDescriptors(t *testing.T) {
	t.Parallel()
	f := NewFiles(0)
	keep(t, f, 2)
	dials := 0
	dial := func(context.Context) (net.Conn, error) {
		if dials++; dials == 3 {
			return unused{}, nil
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
	}
	nc, err := f.Dial(t.Context(), dial)
	if err != nil || dials != 3 {
		t.Fatalf("got %v after %d attempts", err, dials)
	}
	_, err = f.Dial(t.Context(), dial)
	if open, _, _, _ := f.Counts(); !errors.Is(err, ErrNoFiles) || dials != 4 || open != 1 {
		t.Errorf("got %v after %d attempts, %d open", err, dials, open)
	}
	_ = errors.Join(nc.Close(), nc.Close())
	if open, _, _, _ := f.Counts(); open != 0 {
		t.Errorf("got %d open after the last was closed", open)
	}
}

// A scarce listener has no descriptor for so many connections.
type scarce struct {
	net.Listener
	fails int
}

func (l *scarce) Accept() (net.Conn, error) {
	if l.fails--; l.fails >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.ENFILE}
	}
	return unused{}, nil
}

func TestFilesForClients(t *testing.T) {
	t.Parallel()
	f := NewFiles(0)
	keep(t, f, 2)
	if _, err := f.Listener(&scarce{fails: 2}).Accept(); err != nil {
		t.Errorf("two were idle: got %v", err)
	}
	if _, err := f.Listener(&scarce{fails: 1}).Accept(); !short(err) {
		t.Errorf("none is idle: got %v", err)
	}
}

// TestFilesAmongMany: who takes and who gives at once lose no count.
func TestFilesAmongMany(t *testing.T) {
	t.Parallel()
	f := NewFiles(4)
	var wg sync.WaitGroup
	for range 16 {
		k := &idles{files: f}
		wg.Go(func() {
			f.Join(k)
			defer f.Leave(k)
			for range 500 {
				if _, err := f.make(noConn); err == nil {
					k.left.Add(1)
				}
			}
			for k.DropIdle() > 0 {
			}
		})
	}
	wg.Wait()
	if open, _, _, _ := f.Counts(); open != 0 {
		t.Errorf("got %d open after all were closed", open)
	}
}

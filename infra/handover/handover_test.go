package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A keeper reports what it is told.
type keeper chan string

func (k keeper) LetGo()    { k <- "let go" }
func (k keeper) TakeBack() { k <- "take back" }

func fine(context.Context) error { return nil }

// open is a process that takes over from who is at path, and listens at addr.
func open(t *testing.T, path, addr string) (*Sockets, net.Listener) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some tests do it before
	ln, err := s.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return s, ln
}

// running is a process that has begun and serves at a new address.
func running(t *testing.T, path string) (*Sockets, net.Listener, keeper) {
	t.Helper()
	s, ln := open(t, path, "127.0.0.1:0")
	if err := s.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	k, ended := make(keeper, 8), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- s.Run(ctx, k) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, ln, k
}

// answer accepts one connection and says who did.
func answer(ln net.Listener, who string) {
	if nc, err := ln.Accept(); err == nil {
		_, _ = io.WriteString(nc, who)
		_ = nc.Close()
	}
}

func asked(t *testing.T, addr string) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	b, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestASuccessorTakesOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, ln, k := running(t, path)
	addr := ln.Addr().String()
	second, ln2 := open(t, path, addr)
	if got := <-k; got != "let go" {
		t.Errorf("got %q, want the old one to let go of its files first", got)
	}
	go answer(ln, "first")
	if got := asked(t, addr); got != "first" {
		t.Errorf("before the new one is ready: got %q, want first", got)
	}
	parked := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		parked <- err
	}()
	if err := second.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	<-first.Taken()
	go answer(ln2, "second")
	if got := asked(t, addr); got != "second" {
		t.Errorf("after: got %q, want second", got)
	}
	select {
	case err := <-parked:
		t.Errorf("the old server was told %v before it closed its listener", err)
	default:
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-parked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
	_ = first.Close()
	go answer(ln2, "second")
	if got := asked(t, addr); got != "second" {
		t.Errorf("with the old one gone: got %q, want second", got)
	}
	// The control socket is the second's now.
	ended := make(chan error, 1)
	go func() { ended <- second.Run(t.Context(), k) }()
	third, _ := open(t, path, addr)
	if err := third.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	<-second.Taken()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestASuccessorThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	_, ln, k := running(t, path)
	second, _ := open(t, path, ln.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	err := second.Begin(ctx, func(context.Context) error {
		cancel()
		return errors.New("no table")
	})
	if err == nil || !strings.Contains(err.Error(), "no table") || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want why it was not ready", err)
	}
	_ = second.Close()
	if a, b := <-k, <-k; a != "let go" || b != "take back" {
		t.Errorf("got %q, %q, want the files back", a, b)
	}
	go answer(ln, "first")
	if got := asked(t, ln.Addr().String()); got != "first" {
		t.Errorf("got %q, want first", got)
	}
}

func TestAddressesThatAreNotShared(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, ln, _ := running(t, path)
	second, other := open(t, path, "127.0.0.1:0")
	if err := second.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	<-first.Taken()
	go answer(other, "second")
	if got := asked(t, other.Addr().String()); got != "second" {
		t.Errorf("got %q at the new address, want second", got)
	}
	if nc, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = nc.Close()
		t.Error("the old address still takes connections, and nobody accepts there")
	}
}

// TestWhatIsAtThePath: what a killed process left is replaced; what is no socket
// of ours stops the start.
func TestWhatIsAtThePath(t *testing.T) {
	t.Parallel()
	stale := filepath.Join(t.TempDir(), "stale")
	ln, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	s, _ := open(t, stale, "127.0.0.1:0")
	if err := s.Begin(t.Context(), fine); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
	if info, err := os.Stat(stale); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v (%v), want a socket for its owner only", info, err)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file); err == nil {
		s, _ := open(t, file, "127.0.0.1:0")
		if err := s.Begin(t.Context(), fine); err == nil || !strings.Contains(err.Error(), "another kind of file") {
			t.Errorf("got %v, want it to leave the file alone", err)
		}
	}

	strange := filepath.Join(t.TempDir(), "strange")
	if ln, err = net.Listen("unix", strange); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go answer(ln, "220 smtp ready, who are you\r\n")
	if _, err := Open(t.Context(), strange); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("got %v, want what it says instead", err)
	}
}

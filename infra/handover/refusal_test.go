package handover

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// successor is a process at the other end of a conversation that it leads itself.
func successor(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fds, err := receive(c)
	if err != nil || len(fds) != 2 {
		t.Fatalf("got %d descriptors (%v), want 2", len(fds), err)
	}
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// TestASuccessorThatIsGoneTakesNothing: it says that it is ready, and does not live
// to hear the answer. The old one goes on, with its files.
func TestASuccessorThatIsGoneTakesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, ln, k := running(t, path)
	c := successor(t, path)
	if err := c.CloseRead(); err != nil { // what is written to it fails, as when it has ended
		t.Fatal(err)
	}
	say(t, c, ready)
	if a, b := <-k, <-k; a != "let go" || b != "take back" {
		t.Errorf("got %q, %q, want the files back", a, b)
	}
	select {
	case <-first.Taken():
		t.Error("it has retired for nobody")
	default:
	}
	go answer(ln, "first")
	if got := asked(t, ln.Addr().String()); got != "first" {
		t.Errorf("got %q, want first", got)
	}
}

// TestWhoIsRefusedHearsIt: the end of a connection says that the old one is gone,
// so where it goes on it says that.
func TestWhoIsRefusedHearsIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	_, _, k := running(t, path)
	c := successor(t, path)
	say(t, c, "steady\n")
	if got, err := io.ReadAll(c); string(got) != mine {
		t.Errorf("got %q (%v), want %q", got, err, mine)
	}
	if a, b := <-k, <-k; a != "let go" || b != "take back" {
		t.Errorf("got %q, %q, want the files back", a, b)
	}
}

// TestOnlyTheEndWithoutAWordIsTheEnd: what a new process makes of what it hears.
func TestOnlyTheEndWithoutAWordIsTheEnd(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{"": "", yours: "", mine: `it said "mine\n"`} {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			_ = (&Sockets{control: ln}).send(c)
			_, _ = io.ReadFull(c, make([]byte, len(ready)))
			_, _ = io.WriteString(c, said)
			_ = c.Close()
		}()
		s, _ := open(t, path, "127.0.0.1:0")
		err = s.Begin(t.Context(), fine)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("the old one says %q: got %v, want %q", said, err, want)
		}
		<-ended
		_ = ln.Close()
	}
}

// TestAReplacementOfASuccessorThatCrashes starts at once: the socket of the process
// that was retired refuses it.
func TestAReplacementOfASuccessorThatCrashes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, ln, _ := running(t, path)
	addr := ln.Addr().String()
	second, _ := open(t, path, addr)
	if err := second.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	<-first.Taken()
	_ = second.Close()
	startsAlone(t, path, addr)
}

// TestWhoStartsAfterTheLastWord: a process that leaves hands nothing over, and who
// starts while it finishes listens by itself, also where it was just asking.
func TestWhoStartsAfterTheLastWord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, ln, _ := running(t, path)
	first.Leave()
	startsAlone(t, path, ln.Addr().String())

	deaf := filepath.Join(t.TempDir(), "deaf")
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: deaf, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	control.SetUnlinkOnClose(false)
	go func() {
		if c, err := control.Accept(); err == nil {
			_ = c.Close()
		}
		_ = control.Close()
	}()
	startsAlone(t, deaf, "127.0.0.1:0")
}

func startsAlone(t *testing.T, path, addr string) {
	t.Helper()
	s, ln := open(t, path, addr)
	if s.from != nil {
		t.Error("it is in conversation with a process that hands nothing over")
	}
	if err := s.Begin(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	go answer(ln, "alone")
	if got := asked(t, ln.Addr().String()); got != "alone" {
		t.Errorf("got %q, want alone", got)
	}
}

func TestALackThatPasses(t *testing.T) {
	t.Parallel()
	if err := (&net.OpError{Err: syscall.EMFILE}); !exhausted(err) || exhausted(net.ErrClosed) {
		t.Error("a process that is out of files stops handing over for good")
	}
}

package peers

import (
	"syscall"
	"testing"
)

// TestRelayCopiesAll: what the origin has sent goes on when a client that was full reads
// again, though nothing more comes of the origin.
func TestRelayCopiesAll(t *testing.T) {
	t.Parallel()
	pair := func() (ours, theirs int) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = syscall.Close(fds[0]), syscall.Close(fds[1]) })
		return fds[0], fds[1]
	}
	down, client := pair()
	up, from := pair()
	a, b := &relayConn{outlet: outlet{fd: down}}, &relayConn{outlet: outlet{fd: up}}
	a.peer, b.peer = b, a
	r := &relayLoop{in: make([]byte, 64<<10)}
	buf, sent := make([]byte, 256<<10), 0
	for len(a.out) == 0 { // until the client's side is full
		n, err := syscall.Write(from, buf)
		if err != nil || !r.drive(b) {
			t.Fatal("it is over", err)
		}
		sent += n
	}
	for n, err := 0, error(nil); err != syscall.EAGAIN; n, err = syscall.Write(from, buf) { // and the origin's
		sent += n
	}
	for got := 0; got < sent; {
		n, err := syscall.Read(client, buf)
		if err != nil {
			t.Fatalf("got %d of %d bytes, then %v", got, sent, err)
		}
		got += n
		if !r.drive(a) {
			t.Fatal("it is over")
		}
	}
}

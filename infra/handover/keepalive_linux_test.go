package handover

import (
	"net"
	"syscall"
	"testing"
)

// TestConnectionsAreLookedAfter: what a listening socket gives its connections is what
// net would have set on them.
func TestConnectionsAreLookedAfter(t *testing.T) {
	t.Parallel()
	s, ours := open(t, "", "127.0.0.1:0")
	if err := s.Begin(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	nets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nets.Close() })
	got, want := options(t, ours), options(t, nets)
	for i, o := range watched {
		if got[i] != want[i] || got[i] != o.value {
			t.Errorf("option %d of %d: got %d, net sets %d", o.name, o.level, got[i], want[i])
		}
	}
}

// options are what watched names, of a connection that ln accepts.
func options(t *testing.T, ln net.Listener) (values []int) {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for _, o := range watched {
			v, err := syscall.GetsockoptInt(int(fd), o.level, o.name)
			if err != nil {
				t.Error(err)
			}
			values = append(values, v)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return values
}

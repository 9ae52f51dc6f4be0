package handover

import (
	"errors"
	"net"
	"syscall"
)

// quiet listens with sockets whose connections have from the start what net sets on
// each one: four calls that a connection of a single request pays for. A socket that
// was handed over gives it too, but net does not know, and sets it again.
var quiet = net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) (err error) {
	cerr := raw.Control(func(fd uintptr) { err = keepAlive(int(fd)) })
	return errors.Join(cerr, err)
}}

// keepAlive has connections of a listening socket looked after as net does: after 15 s
// of silence, then every 15 s, nine times.
func keepAlive(fd int) error {
	for _, o := range watched {
		if err := syscall.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

var watched = []struct{ level, name, value int }{
	{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
}

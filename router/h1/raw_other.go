//go:build !linux

package h1

import (
	"net"
	"os"
	"syscall"
)

// readNow reads what there is, without waiting.
func readNow(fd uintptr, p []byte) (int, error) { return callNow(syscall.Read, "read", fd, p) }

// writeNow writes what the kernel takes, without waiting.
func writeNow(fd uintptr, p []byte) (int, error) { return callNow(syscall.Write, "write", fd, p) }

// unsent would report whether the kernel holds bytes that it could not send yet.
func unsent(uintptr) bool { return false }

// hungUp would report whether the peer sends no more, whatever waits to be read.
func hungUp(uintptr) bool { return false }

func callNow(call func(fd int, p []byte) (int, error), name string, fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		switch err { //nolint:errorlint // an Errno as the kernel gave it
		case nil:
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errAgain
		default:
			return 0, &net.OpError{Op: name, Net: "tcp", Err: os.NewSyscallError(name, err)}
		}
	}
}

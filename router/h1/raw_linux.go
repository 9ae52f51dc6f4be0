package h1

import (
	"net"
	"os"
	"syscall"
	"unsafe"
)

// readNow reads what there is, without waiting. The scheduler is not told: it would
// give the processor to another thread while much is copied.
func readNow(fd uintptr, p []byte) (int, error) {
	return callNow(syscall.SYS_READ, "read", fd, p)
}

// writeNow writes what the kernel takes, as readNow reads.
func writeNow(fd uintptr, p []byte) (int, error) {
	return callNow(syscall.SYS_WRITE, "write", fd, p)
}

// siocOutqNSD asks for the bytes that the kernel has not sent: linux/sockios.h.
const siocOutqNSD = 0x894b

// unsent reports whether the kernel holds bytes that it could not send yet.
func unsent(fd uintptr) bool {
	var n int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, siocOutqNSD, uintptr(unsafe.Pointer(&n)))
	return errno == 0 && n > 0
}

// pollRDHUP is what poll tells of a peer that sends no more: bits/poll.h.
const pollRDHUP = 0x2000

// hungUp reports whether the peer sends no more, whatever waits to be read.
func hungUp(fd uintptr) bool {
	asked := struct {
		fd            int32
		events, found int16
	}{int32(fd), pollRDHUP, 0} //nolint:gosec // a descriptor
	var now syscall.Timespec
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&asked)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n > 0
}

func callNow(call uintptr, name string, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil //nolint:gosec // at most len(p)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errAgain
		default:
			return 0, &net.OpError{Op: name, Net: "tcp", Err: os.NewSyscallError(name, errno)}
		}
	}
}

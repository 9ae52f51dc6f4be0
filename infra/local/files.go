package local

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// maxTail bounds how much of a log Tail reads.
const maxTail = 32 << 10

// Tail is the last n lines of a file, "" when there is nothing to read.
func Tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	size := min(info.Size(), maxTail)
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, info.Size()-size); err != nil {
		return ""
	}
	lines := strings.Split(string(bytes.TrimSpace(buf)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// FreePort is a TCP port on the loopback interface that nobody listens on now.
// It may be taken before it is used; who starts a server on it tries again.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// PortFree reports whether a listener could have the port now.
func PortFree(port int) bool {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// A FileLock is held until Unlock or the end of the process.
type FileLock struct{ f *os.File }

// ErrLocked says that another process holds a lock.
var ErrLocked = syscall.EWOULDBLOCK

// Lock takes the lock at path, creating the file. wait says whether to wait for
// another holder; without it, one is ErrLocked.
func Lock(path string, wait bool) (*FileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR { //nolint:errorlint // a bare errno
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &FileLock{f}, nil
}

// Unlock lets go of the lock.
func (l *FileLock) Unlock() error { return l.f.Close() }

// PortTaken reports whether the end of a server's log says that its port was
// in use: a reason to try another one.
func PortTaken(log string) bool {
	return strings.Contains(strings.ToLower(Tail(log, 40)), "address already in use")
}

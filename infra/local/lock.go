package local

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// A FileLock is held until Unlock or the end of the process.
type FileLock struct{ f *os.File }

// ErrLocked says that another process holds a lock.
var ErrLocked = syscall.EWOULDBLOCK

// Lock takes the lock at path, creating the file. wait says whether to wait for
// another holder; without it, one is ErrLocked.
func Lock(path string, wait bool) (*FileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := flock(f, wait); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if isAt(f, path) {
			return &FileLock{f}, nil
		}
		f.Close() // its holder removed the file: lock the new one
	}
}

func flock(f *os.File, wait bool) error {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR { //nolint:errorlint // a bare errno
			return err
		}
	}
}

// isAt reports whether path still names f.
func isAt(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Unlock lets go of the lock.
func (l *FileLock) Unlock() error { return l.f.Close() }

// Remove lets go of the lock and removes its file.
func (l *FileLock) Remove() error {
	return errors.Join(os.Remove(l.f.Name()), l.f.Close())
}

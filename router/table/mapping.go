package table

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// mapFile maps a file into memory. Nobody writes into a table file: a new one is
// written beside it and renamed, and the mapping keeps the old one for as long as
// somebody reads it.
func mapFile(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, fmt.Errorf("map %s: %w: not a file with contents", path, fs.ErrInvalid)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE) //nolint:gosec // descriptors are small
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// release unmaps what a view was decoded from: at once where nothing of it is in
// use, else when the collector knows that nobody can reach the base any more. A
// look-up keeps the base reachable until it has read.
func release(mapped []byte, b *base) {
	if b == nil {
		_ = syscall.Munmap(mapped) // fails only for what is no mapping
		return
	}
	runtime.AddCleanup(b, func(m []byte) { _ = syscall.Munmap(m) }, mapped)
}

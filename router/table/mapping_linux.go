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

// huge is the base copied into pages of two megabytes, where the kernel has them:
// with ten million tenants most of a look-up's time is that of finding the page.
// nil where there is no memory for it.
func (b *base) huge() *base {
	const advice = 14 // MADV_HUGEPAGE
	m, err := syscall.Mmap(-1, 0, len(b.slots)+len(b.blocks)+len(b.codes), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil
	}
	_ = syscall.Madvise(m, advice) // without them it is only slower
	out := *b
	rest := m
	for _, part := range []*[]byte{&out.slots, &out.blocks, &out.codes} {
		n := copy(rest, *part)
		*part, rest = rest[:n:n], rest[n:]
	}
	runtime.KeepAlive(b)
	release(m, &out)
	return &out
}

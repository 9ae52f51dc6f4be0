package certs

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// A watch calls reload when a file changes. Certificates and keys are two files
// and cannot be written at once: what fails is tried again with each look, and is
// reported when it has failed twice.
type watch struct {
	Options
	paths  func() []string
	reload func() error

	seen   string // what the files looked like when they were last taken or refused
	bad    bool   // the last look refused them
	failed string // what was reported
}

// run looks at the files until ctx ends.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look(ctx)
		}
	}
}

// look takes the files if they have changed, or were refused the last time.
func (w *watch) look(ctx context.Context) {
	now := fingerprint(w.paths())
	if now == w.seen && !w.bad {
		return
	}
	err := w.reload()
	again := w.bad && now == w.seen
	w.seen, w.bad = now, err != nil
	switch {
	case err == nil:
		w.failed = ""
		w.Log.InfoContext(ctx, "certificates loaded again")
	case again && w.failed != err.Error():
		w.failed = err.Error()
		w.Log.ErrorContext(ctx, "certificates not loaded; those from before serve", "error", err)
	}
}

// fingerprint changes when a file is written, replaced, linked elsewhere or gone.
func fingerprint(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		st, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s -\n", path)
			continue
		}
		fmt.Fprintf(&b, "%s %d %d %d\n", path, st.ModTime().UnixNano(), st.Size(), inode(st))
	}
	return b.String()
}

func inode(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

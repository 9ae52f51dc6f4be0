package certs

import (
	"context"
	"crypto/x509"
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
	each   each

	seen   string // what the files looked like when they were last taken or refused
	bad    bool   // the last look refused them
	failed string // what was reported

	reminded map[string]reminder // of the certificates that serve, by name
}

// A reminder is what was said last of a certificate's end.
type reminder struct {
	end  time.Time
	over bool
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
			w.remind(ctx)
		}
	}
}

// nearEnd is from when on a certificate should have been renewed: for a third of
// its life, or a week, if that is less.
func nearEnd(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-min(c.NotAfter.Sub(c.NotBefore)/3, 7*24*time.Hour))
}

// remind says of each certificate once that it is near its end, and once that it
// is over. Either way it stays: connections that are open do not depend on it.
func (w *watch) remind(ctx context.Context) {
	now, said := w.Now(), map[string]reminder{}
	w.each(func(name string, c *x509.Certificate) {
		r := reminder{end: c.NotAfter, over: now.After(c.NotAfter)}
		switch {
		case now.Before(nearEnd(c)):
			return
		case w.reminded[name] == r:
		case r.over:
			w.Log.ErrorContext(ctx, "certificate has expired; new connections fail", "name", name, "expired", c.NotAfter)
		default:
			w.Log.WarnContext(ctx, "certificate is near its end and was not renewed", "name", name, "expires", c.NotAfter)
		}
		said[name] = r
	})
	w.reminded = said
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

package guard

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// A File keeps a guard's policy as the file says. It belongs to one process.
type File struct {
	path  string
	guard *Guard
	log   *slog.Logger
	seen  stamp // of the file that was read last, good or not
}

// A stamp says whether a file is still the one that was read.
type stamp struct {
	size int64
	at   time.Time
}

// fileEvery is how often the file is looked at.
const fileEvery = time.Second

// NewFile reads the policy and gives it to g; a bad one is an error.
func NewFile(path string, g *Guard, log *slog.Logger) (*File, error) {
	f := &File{path: path, guard: g, log: log, seen: stampOf(path)}
	p, err := Load(path)
	if err != nil {
		return nil, err
	}
	return f, g.Use(p)
}

// Run takes up changes of the file until ctx ends, at once when told by now. A
// bad file is refused with one line, and what was in force stays so.
func (f *File) Run(ctx context.Context, now <-chan os.Signal) error {
	every := time.NewTicker(fileEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-now:
			f.seen = stamp{}
		case <-every.C:
		}
		f.runOnce(ctx)
	}
}

// runOnce reads the file if it has changed.
func (f *File) runOnce(ctx context.Context) {
	is := stampOf(f.path)
	if is == f.seen {
		return
	}
	f.seen = is
	p, err := Load(f.path)
	if err == nil {
		err = f.guard.Use(p)
	}
	if err != nil {
		f.guard.metrics.reloads.WithLabelValues("refused").Inc()
		f.log.ErrorContext(ctx, "policy refused; the one before stays in force", "file", f.path, "error", err)
		return
	}
	f.guard.metrics.reloads.WithLabelValues("ok").Inc()
	f.log.InfoContext(ctx, "policy in force", "file", f.path)
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeType != 0 {
		return stamp{size: -1}
	}
	return stamp{info.Size(), info.ModTime()}
}

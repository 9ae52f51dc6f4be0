package guard

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"
)

// A File keeps a guard's policy as the file says. It belongs to one process.
type File struct {
	path   string
	guard  *Guard
	log    *slog.Logger
	names  []string // other files, which the policy that was read last names
	seen   []stamp  // of all of them when they were read, good or not
	looked []stamp  // of all of them when they were last looked at
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
	f := &File{path: path, guard: g, log: log}
	p, err := f.load()
	if err == nil {
		err = g.Use(p)
	}
	return f, err
}

// load reads all files.
func (f *File) load() (Policy, error) {
	f.seen = f.stamps()
	p, err := Load(f.path)
	if names := p.files(); !slices.Equal(names, f.names) {
		f.names = names
		f.seen = f.stamps()
		p, err = Load(f.path) // again, now that a change of any of them will be seen
	}
	return p, err
}

// reload is load for a guard that has a policy. A file that says nothing is one that
// somebody is about to write: who wants no policy writes {}.
func (f *File) reload() error {
	p, err := f.load()
	switch {
	case err != nil:
		return err
	case p.empty:
		return bad("policy %s is empty", f.path)
	}
	return f.guard.Use(p)
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
			f.seen, f.looked = nil, f.stamps()
		case <-every.C:
		}
		f.runOnce(ctx)
	}
}

// runOnce reads the file if it has changed, and has not since it was last looked at:
// one that is written at this moment is not whole.
func (f *File) runOnce(ctx context.Context) {
	now := f.stamps()
	still := slices.Equal(now, f.looked)
	f.looked = now
	if !still || slices.Equal(now, f.seen) {
		return
	}
	if err := f.reload(); err != nil {
		f.guard.metrics.reloads.WithLabelValues("refused").Inc()
		f.log.ErrorContext(ctx, "policy refused; the one before stays in force", "file", f.path, "error", err)
		return
	}
	f.guard.metrics.reloads.WithLabelValues("ok").Inc()
	f.log.InfoContext(ctx, "policy in force", "file", f.path)
}

func (f *File) stamps() []stamp {
	out := []stamp{stampOf(f.path)}
	for _, name := range f.names {
		out = append(out, stampOf(name))
	}
	return out
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&fs.ModeType != 0 {
		return stamp{size: -1}
	}
	return stamp{info.Size(), info.ModTime()}
}

package table

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// A Disk keeps the last good table in a file, and the one before it beside it
// with the suffix ".prev". It belongs to one process.
type Disk struct {
	path  string
	table *Table
	log   *slog.Logger
	good  bool // what is at path may become the previous file
	saved *View
}

// Pauses between two writes: at least minPause, and writing takes at most one
// part in pauseShare of the time, so that a big table does not wear out the disk.
const (
	minPause    = 200 * time.Millisecond
	pauseShare  = 20
	failedPause = 5 * time.Second
)

// NewDisk keeps t at path.
func NewDisk(path string, t *Table, log *slog.Logger) *Disk {
	return &Disk{path: path, table: t, log: log}
}

// Load puts the last good table into an empty Table. A file that is not as it
// was written is refused with a log line that says why and where, and the
// previous one is tried. Where there is no good file the error says so; it is
// fs.ErrNotExist where there is no file at all.
func (d *Disk) Load(ctx context.Context) error {
	var failed error
	for i, path := range []string{d.path, d.path + ".prev"} {
		v, err := d.read(path)
		if err == nil {
			if i == 0 {
				d.good, d.saved = true, v
			}
			d.table.replace(v)
			d.log.InfoContext(ctx, "table loaded from disk", "file", path, "version", v.Version(), "tenants", v.Tenants())
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.ErrorContext(ctx, "table file refused", "file", path, "error", err)
		}
		if failed == nil || errors.Is(failed, fs.ErrNotExist) {
			failed = err
		}
	}
	return failed
}

func (d *Disk) read(path string) (*View, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read table file: %w", err)
	}
	v, err := decode(b, d.table.seed)
	if err != nil {
		return nil, fmt.Errorf("read table file %s: %w", path, err)
	}
	return v, nil
}

// Run writes the table whenever it has changed, several changes at once, until
// ctx ends; then it writes once more if it has to. A disk that fails is an
// operator's business and no reason to stop routing: it is logged and tried again.
func (d *Disk) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		v, began := d.table.View(), time.Now()
		if !d.saveLogged(ctx, v) {
			wait(ctx, failedPause)
			continue
		}
		pause := max(minPause, pauseShare*time.Since(began))
		select {
		case <-ctx.Done():
		case <-v.Replaced():
			wait(ctx, pause)
		}
	}
	// The stop is clean only with the newest table on disk; writing honours no context.
	d.saveLogged(context.WithoutCancel(ctx), d.table.View())
	return nil
}

func (d *Disk) saveLogged(ctx context.Context, v *View) bool {
	if err := d.save(v); err != nil {
		d.log.ErrorContext(ctx, "table not saved", "file", d.path, "error", err)
		return false
	}
	return true
}

func (d *Disk) save(v *View) error {
	if v.source == FromNowhere || (d.saved != nil && d.saved.replaced == v.replaced) {
		return nil
	}
	if err := d.write(v); err != nil {
		return fmt.Errorf("save table: %w", err)
	}
	d.good, d.saved = true, v
	return nil
}

// write makes path v and the file that was there, if it was good, the previous
// one. At each moment one of the two is whole.
func (d *Disk) write(v *View) error {
	tmp := d.path + ".tmp"
	if err := writeSynced(tmp, v); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if d.good {
		if err := os.Rename(d.path, d.path+".prev"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(tmp, d.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(d.path))
}

func writeSynced(path string, v *View) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 256<<10)
	if err := v.encode(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) (err error) {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

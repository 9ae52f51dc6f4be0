package table

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// A Disk keeps the last good table in files: all of it at path and, where the
// table is large, what has changed since beside it with the suffix ".delta". The
// two before them have ".prev" before that. It belongs to one process.
type Disk struct {
	path  string
	owner string
	table *Table
	log   *slog.Logger
	good  bool // what is at path may become the previous file
	saved *View
	base  *base // as in the file at path; nil where it has none
	fast  bool  // base is in huge pages
}

// Pauses between two writes: at least minPause, and writing takes at most one
// part in pauseShare of the time, so that a big table does not wear out the disk.
const (
	minPause    = 200 * time.Millisecond
	pauseShare  = 20
	failedPause = 5 * time.Second
)

// NewDisk keeps t at path. owner names the installation: a file of another one
// is refused.
func NewDisk(path, owner string, t *Table, log *slog.Logger) *Disk {
	return &Disk{path: path, owner: owner, table: t, log: log}
}

// Load puts the last good table into an empty Table. A file that is not as it
// was written is refused with a log line that says why and where, and the
// previous one is tried. Where there is no good file the error says so; it is
// fs.ErrNotExist where there is no file at all.
func (d *Disk) Load(ctx context.Context) error {
	var failed error
	for i, path := range []string{d.path, d.path + before} {
		v, err := d.read(path)
		if err == nil {
			v = d.readDelta(ctx, path+changes, v)
			if i == 0 {
				d.good, d.saved, d.base = true, v, v.base
			}
			d.table.replace(v)
			d.log.InfoContext(ctx, "table loaded from disk", "file", path, "version", v.Version(), "tenants", v.Tenants())
			return nil
		}
		d.refused(ctx, path, err)
		if failed == nil || errors.Is(failed, fs.ErrNotExist) {
			failed = err
		}
	}
	return failed
}

const (
	before  = ".prev"
	changes = ".delta"
)

// refused raises the alarm for a file that is there and not good.
func (d *Disk) refused(ctx context.Context, path string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		d.table.refusedFiles.Add(1)
		d.log.ErrorContext(ctx, "table file refused", "file", path, "error", err)
	}
}

// readDelta is v with what has changed since; v where there is nothing good.
func (d *Disk) readDelta(ctx context.Context, path string, v *View) *View {
	if v.base == nil {
		return v
	}
	mapped, err := mapFile(path)
	if err != nil {
		d.refused(ctx, path, err)
		return v
	}
	defer release(mapped, nil)
	newer, id, err := decode(mapped, d.owner, d.table.seed)
	if err != nil || newer.base != nil {
		d.refused(ctx, path, cmp.Or(err, broken("its kind")))
		return v
	}
	if id != v.base.id || newer.version < v.version {
		return v // of another table: it was about to be removed
	}
	newer.base = v.base
	newer.tenants = newer.countTenants()
	return newer
}

func (d *Disk) read(path string) (*View, error) {
	mapped, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("read table file: %w", err)
	}
	v, id, err := decode(mapped, d.owner, d.table.seed)
	if err == nil && v.base == nil && id != ([16]byte{}) {
		err = broken("its kind")
	}
	if err != nil {
		release(mapped, nil)
		return nil, fmt.Errorf("read table file %s: %w", path, err)
	}
	release(mapped, v.base)
	return v, nil
}

// Run writes the table whenever it has changed, several changes at once, until
// ctx ends; then it writes once more if it has to. A disk that fails is an
// operator's business and no reason to stop routing: it is logged and tried again.
func (d *Disk) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		d.packLogged(ctx)
		d.speedUp()
		v := d.table.record.Load()
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
	d.saveLogged(context.WithoutCancel(ctx), d.table.record.Load())
	return nil
}

// speedUp moves a base that lies in its file into huge pages.
func (d *Disk) speedUp() {
	if v := d.table.record.Load(); v.base != nil && v.base == d.base && !d.fast {
		if fast := v.base.huge(); fast != nil {
			d.table.rebase(v.base, fast)
			d.base, d.fast = fast, true
		}
	}
}

// packLogged packs a table whose changes have become many. Where that cannot be
// done they stay on top, and cost memory until the next snapshot.
func (d *Disk) packLogged(ctx context.Context) {
	if !d.table.record.Load().wantsPacking(d.table.packFrom) {
		return
	}
	if err := d.table.pack(); err != nil {
		d.log.WarnContext(ctx, "table not packed", "error", err)
	}
}

func (d *Disk) saveLogged(ctx context.Context, v *View) bool {
	if err := d.save(v); err != nil {
		d.log.ErrorContext(ctx, "table not saved", "file", d.path, "error", err)
		return false
	}
	return true
}

// save writes what has changed: beside the file that has the base, or a new file
// where there is none, which then takes the place of the base in memory.
func (d *Disk) save(v *View) error {
	if v.source == FromNowhere || (d.saved != nil && d.saved.replaced == v.replaced && d.base == v.base) {
		return nil
	}
	if v.base != nil && v.base == d.base {
		if err := d.write(d.path+changes, v, false); err != nil {
			return fmt.Errorf("save changes of table: %w", err)
		}
		d.saved = v
		return nil
	}
	if err := d.writeWhole(v); err != nil {
		return fmt.Errorf("save table: %w", err)
	}
	d.good, d.saved, d.base = true, v, nil
	if v.base != nil {
		again, err := d.read(d.path)
		if err != nil {
			return fmt.Errorf("read what was saved: %w", err)
		}
		d.base, d.fast = again.base, false
		d.table.rebase(v.base, again.base)
	}
	return nil
}

// writeWhole makes path v and the files that were there, if they were good, the
// previous ones. At each moment one of the two is whole: changes that are beside
// a base that is not theirs are passed over.
func (d *Disk) writeWhole(v *View) error {
	if d.good {
		for _, suffix := range []string{"", changes} {
			to := d.path + before + suffix
			// One may be left: of a kill, or of a failed write, after which both are the
			// same file already and renaming one to the other does nothing.
			if err := os.Remove(to + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Link(d.path+suffix, to+".tmp"); err == nil {
				err = os.Rename(to+".tmp", to)
				if err != nil {
					return err
				}
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return d.write(d.path, v, true)
}

// write makes path v. At each moment what is there is whole.
func (d *Disk) write(path string, v *View, withBase bool) error {
	tmp := path + ".tmp"
	if err := d.writeSynced(tmp, v, withBase); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (d *Disk) writeSynced(path string, v *View, withBase bool) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 256<<10)
	if err := v.encode(w, d.owner, withBase); err != nil {
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

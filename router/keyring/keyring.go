// Package keyring keeps what a router knows of the directory's credentials: up to date,
// and on disk.
package keyring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/token"
)

// A File keeps a ring of API keys and revoked tokens up to date with the
// directory, and its last good copy on disk: a router that starts while the
// directory is dead knows the keys that it knew. It belongs to one process.
type File struct {
	path  string
	ring  *token.Ring
	log   *slog.Logger
	saved directory.Version
	head  directory.Head // of that version
	times int64          // restarts of the ring when it was saved

	confirmed atomic.Int64 // Unix nanoseconds: see confirmedAt
}

// saveEvery is how often a changed ring is written, at most.
const saveEvery = time.Second

// New keeps ring at path.
func New(path string, ring *token.Ring, log *slog.Logger) *File {
	return &File{path: path, ring: ring, log: log}
}

// Load fills an empty ring from the file. One that is not as it was written is
// refused with a line that says why: then the ring is not known until the directory
// answers, because half of the revocations are worse than none of the keys.
func (f *File) Load(ctx context.Context) {
	c, err := read(f.path)
	if err == nil {
		err = f.ring.Apply(c)
	}
	switch {
	case err == nil:
		f.saved, f.head = c.Version, c.Head
		f.log.InfoContext(ctx, "keys loaded from disk", "file", f.path, "version", c.Version, "keys", len(c.Keys))
	case !errors.Is(err, fs.ErrNotExist):
		f.log.ErrorContext(ctx, "key file refused", "file", f.path, "error", err)
	}
}

// read reads a checksum on a line of its own and what it is of.
func read(path string) (directory.Credentials, error) {
	var c directory.Credentials
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	sum, body, _ := bytes.Cut(b, []byte("\n"))
	if string(sum) != digest(body) {
		return c, errors.New("the file is cut or changed")
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, err
	}
	if c.Since != 0 || c.Version <= 0 {
		return c, fmt.Errorf("version %d since %d is not everything", c.Version, c.Since)
	}
	return c, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Follow keeps the ring up to date with feed until ctx ends.
func (f *File) Follow(ctx context.Context, feed directory.Keys) error {
	apply := func(c directory.Credentials) error {
		was, times := f.ring.Version(), f.ring.Restarts()
		err := f.ring.Apply(c)
		if err == nil {
			f.confirmed.Store(time.Now().UnixNano())
		}
		if f.ring.Restarts() > times {
			f.log.WarnContext(ctx, "directory's record is older than the keys, or has another history, and takes their place: was it restored? what was revoked stays so", "version", c.Version, "before", was)
		}
		return err
	}
	return client.WatchCredentials(ctx, feed, f.ring.Version(), apply, func(err error, pause time.Duration) {
		f.log.WarnContext(ctx, "directory does not answer; the keys stay as they are", "error", err, "pause", pause, "version", f.ring.Version())
	})
}

// confirmedAt is when the directory last said that the ring is as its record is, or
// brought it there; zero where it never has.
func (f *File) confirmedAt() time.Time {
	n := f.confirmed.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Run writes the ring whenever it has changed, until ctx ends; then once more if
// it has to.
func (f *File) Run(ctx context.Context) error {
	every := time.NewTicker(saveEvery)
	defer every.Stop()
	for {
		ended := ctx.Err() != nil
		if err := f.save(); err != nil {
			f.log.ErrorContext(ctx, "keys not saved", "file", f.path, "error", err)
		}
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-every.C:
		}
	}
}

// save replaces the file as a whole.
func (f *File) save() error {
	times := f.ring.Restarts()
	if f.ring.Version() == f.saved && f.ring.Head() == f.head && times == f.times {
		return nil
	}
	c := f.ring.All()
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	tmp := f.path + ".tmp"
	if err := write(tmp, append([]byte(digest(body)+"\n"), body...)); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, f.path); err != nil {
		return err
	}
	f.saved, f.head, f.times = c.Version, c.Head, times
	return nil
}

// Metrics say how old the ring is, and how often the directory's record was restored
// behind it.
func (f *File) Metrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "router_keys_restarts_total", Help: "Times that an older record of the directory's, or one with another history, took the place of the keys: see the log.",
		}, func() float64 { return float64(f.ring.Restarts()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "router_keys_age_seconds", Help: "Since the directory last confirmed the keys and what is revoked; -1: never in this process.",
		}, func() float64 {
			at := f.confirmedAt()
			if at.IsZero() {
				return -1
			}
			return time.Since(at).Seconds()
		}),
	}
}

func write(path string, b []byte) (err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

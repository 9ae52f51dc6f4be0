package transfer

import (
	"context"
	_ "embed"
	"fmt"
	"sync"

	"github.com/cellway/cellway/infra/pg"
)

// versionSQL makes one text that stands for the catalog as it is.
//
//go:embed version.sql
var versionSQL string

// catalogVersion is another one after whatever alters the schema. To ask for it costs a
// twentieth of what reading the catalog does.
func catalogVersion(ctx context.Context, db pg.DB) (string, error) {
	var version string
	if err := db.QueryRow(ctx, versionSQL).Scan(&version); err != nil {
		return "", fmt.Errorf("read the catalog's version: %w", err)
	}
	return version, nil
}

// unchanged is version if it is still the catalog's, else "": what was read meanwhile may
// be of something in between, and versions come back where it is undone.
func unchanged(ctx context.Context, db pg.DB, version string) (string, error) {
	now, err := catalogVersion(ctx, db)
	if now != version {
		now = ""
	}
	return now, err
}

// A tableCache keeps the list of tables for as long as the catalog's version is the
// same. The first round of each move asks for the version, and so does the round after
// one that the server has refused; the last round, inside the pause, does not.
type tableCache struct {
	mu      sync.Mutex
	version string // the same before and after the list was read
	list    []Table

	times int // how often the list was replaced or forgotten
}

// get asks the database without the lock: who is inside a pause must not wait for another move's question.
func (c *tableCache) get(ctx context.Context, db pg.DB, fresh bool) ([]Table, error) {
	c.mu.Lock()
	list, version, times := c.list, c.version, c.times
	c.mu.Unlock()
	if list != nil && !fresh {
		return list, nil
	}
	now, err := catalogVersion(ctx, db)
	if err != nil || list != nil && now == version {
		return list, err
	}
	if list, err = Tables(ctx, db); err != nil {
		return nil, err
	}
	if version, err = unchanged(ctx, db, now); err != nil {
		return list, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == times { // else it may be older than what is kept, or was altered since
		c.list, c.version = list, version
		c.times++
	}
	return list, nil
}

// refused forgets the catalog where err is of the server.
func (c *tableCache) refused(err error) {
	if pg.Code(err) == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
	c.times++
}

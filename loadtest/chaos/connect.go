package chaos

import (
	"context"
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// ownName marks the run's own connections, which no fault is aimed at.
const ownName = "chaos"

func named(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("parse database url: it is malformed") // it holds a password
	}
	q := u.Query()
	q.Set("application_name", ownName)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func open(ctx context.Context, raw string) (*pgxpool.Pool, error) {
	url, err := named(raw)
	if err != nil {
		return nil, err
	}
	return pg.Open(ctx, url, 6)
}

// openCell connects to a cell's servers, as superuser and as a module does.
func (r *run) openCell(ctx context.Context, c stack.Cell) (err error) {
	id := directory.CellID(c.ID)
	if r.cells[id], err = open(ctx, c.DatabaseURL); err != nil {
		return err
	}
	url, err := named(c.AppDatabaseURL)
	if err != nil {
		return err
	}
	r.keepers[id], err = keeper.Open(ctx, id, url, c.RedisURL)
	return err
}

func (r *run) close() {
	for _, a := range r.audiences {
		a.leave()
	}
	for _, c := range r.keepers {
		if c != nil {
			_ = c.Close() // nothing of it is needed any more
		}
	}
	r.ep.Close()
	r.console.Close()
	if r.record != nil {
		r.record.Close()
	}
	for _, db := range r.cells {
		if db != nil {
			db.Close()
		}
	}
}

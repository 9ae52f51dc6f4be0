package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/infra/pg"
)

// textForm makes the text of every value depend on the value alone, so that two
// cells hash and copy it the same way, and find a row by the key that was noted for it
// (cell.capture_settings).
var textForm = map[string]string{
	"timezone": "UTC", "datestyle": "ISO, YMD", "intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "lc_monetary": "C",
	// The statements of a round name the way to few rows: to compile them takes longer than they do, and in the pause.
	"jit": "off",
	// A statement of a mover that died must not go on for ever, nor hold the fence.
	"idle_in_transaction_session_timeout": "60s",
	// What the server or the database says of all sessions is for requests: a copy takes as long as it takes.
	"statement_timeout": "0", "lock_timeout": "0", "default_transaction_isolation": "read committed",
}

// unbounded is the same of a setting that servers before 17 do not know.
const unbounded = `; SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'`

// Open makes the pool of the transfer endpoint: for the role that
// store.PrepareMover made, with settings that give values one form. size bounds its
// connections. A suspect database refuses movers as it refuses tenants: once per
// connection is enough, because the server's next run takes every connection along.
func Open(ctx context.Context, url string, size int32) (*pgxpool.Pool, error) {
	return open(ctx, url, size, `SELECT cell.must_serve()`)
}

// OpenReplica is Open for a Target and a Purger, whose transactions run without
// triggers and foreign keys: a session that goes from one to the other throws away
// the plans of all its statements, and the last round would plan them in the pause.
func OpenReplica(ctx context.Context, url string, size int32) (*pgxpool.Pool, error) {
	return open(ctx, url, size, `SELECT cell.must_serve(); SET session_replication_role = replica`)
}

func open(ctx context.Context, url string, size int32, first string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("parse the mover's database url: it is malformed")
	}
	cfg.MaxConns = size
	for k, v := range textForm {
		cfg.ConnConfig.RuntimeParams[k] = v
	}
	// A stream's transaction has no other end for a day where our machine is gone. Of liveness it
	// is all: the bound of an answer that nobody takes would end a slow reader's.
	first = pg.KeepAlives(cfg.ConnConfig) + first + unbounded
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, first)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the mover's database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil && !fence.IsSuspect(err) {
		pool.Close()
		return nil, fmt.Errorf("open the mover's database: %w", err)
	}
	return pool, nil
}

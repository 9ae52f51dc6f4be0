// Package pg opens Postgres pools, runs transactions and applies migrations.
package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A DB is what a query needs: a pool, a connection or a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// KeepAlives lets the server notice within half a minute that the machine at the other
// end is gone, or the way to it: an idle session keeps its locks until then, and the
// kernel's own setting is two hours. The client's dialer asks every 15 seconds (net).
// What it says is for a connection that is there: a pooler (PgBouncer) refuses one whose first message
// has a setting that it does not know. What cfg says itself stays.
func KeepAlives(cfg *pgx.ConnConfig) string {
	return settings(cfg, map[string]string{"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}) // seconds
}

func settings(cfg *pgx.ConnConfig, all map[string]string) string {
	var set strings.Builder
	for setting, value := range all {
		if _, own := cfg.RuntimeParams[setting]; !own {
			fmt.Fprintf(&set, "SET %s = '%s';", setting, value)
		}
	}
	return set.String()
}

// setLiveness is KeepAlives for cfg and its copies, and for who takes no answer: no keepalives
// are sent while one is under way.
func setLiveness(cfg *pgx.ConnConfig) {
	set := KeepAlives(cfg) + settings(cfg, map[string]string{"tcp_user_timeout": "20s"})
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, set).ReadAll()
		return err
	}
}

// Connect opens one connection, of which the server lets go as of a pool's.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", redact(err))
	}
	setLiveness(cfg)
	return pgx.ConnectConfig(ctx, cfg)
}

// Open makes a pool for url, traced, and checks that the server answers. size
// bounds its connections; 0 leaves it to the URL (pool_max_conns) or pgx. The server
// lets go of a session whose client is gone soon, unless the URL says otherwise; a copy
// of the pool's configuration has that, too.
func Open(ctx context.Context, url string, size int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", redact(err))
	}
	if size > 0 {
		cfg.MaxConns = size
	}
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.Tracer = otelpgx.NewTracer()
	setLiveness(cfg.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return pool, nil
}

// redact drops the URL, which may hold a password, from a parse error.
func redact(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return parse.Unwrap()
	}
	return err
}

// A Beginner starts transactions: *pgxpool.Pool and *pgx.Conn do.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// InTx runs fn in a READ COMMITTED transaction: committed when fn returns nil,
// rolled back on an error or a panic.
func InTx(ctx context.Context, db Beginner, fn func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{}, fn)
}

// rollbackTimeout bounds the clean-up after a failed transaction.
const rollbackTimeout = 5 * time.Second

// InTxAfter is InTx with opts where the first statements are known: they go out with
// BEGIN, in one message, and are answered when fn runs. fn may have committed itself, by
// a batch of QueueCommit.
func InTxAfter(ctx context.Context, pool *pgxpool.Pool, opts pgx.TxOptions, first func(b *pgx.Batch), fn func(tx pgx.Tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // destroys a connection that is not idle
	var b pgx.Batch
	b.BeginTx(opts)
	first(&b)
	begun := conn.SendBatch(ctx, &b)
	tx, over := begun.Tx(), false
	defer func() {
		if over {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout) // also where ctx is what ended it
		defer cancel()
		_ = tx.Rollback(ctx) // the caller already has the error that matters
	}()
	if err := begun.Close(); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	if over = conn.Conn().PgConn().TxStatus() == 'I'; over {
		return nil
	}
	err = tx.Commit(ctx)
	over = err == nil
	return err
}

// QueueCommit makes a batch end its transaction. committed is true once Postgres has
// said so, also where the connection ended right after it, with an error.
func QueueCommit(b *pgx.Batch) (committed *bool) {
	committed = new(bool)
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if *committed = tag.String() == "COMMIT"; !*committed {
			return pgx.ErrTxCommitRollback // an earlier statement failed, and its error was swallowed
		}
		return nil
	})
	return committed
}

// Code is the SQLSTATE of err, or "" where Postgres did not make it.
func Code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// SQLSTATEs that callers act on.
const (
	UniqueViolation      = "23505"
	ForeignKeyViolation  = "23503"
	CheckViolation       = "23514"
	SerializationFailure = "40001"
	DeadlockDetected     = "40P01"
	LockNotAvailable     = "55P03"
	InsufficientRights   = "42501"
	QueryCanceled        = "57014" // by its timeout, or by an operator
	ReadOnly             = "25006" // a standby's word, and that of a server whose disk is nearly full
)

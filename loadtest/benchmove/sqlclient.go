package benchmove

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
)

// pipelined runs a transaction as a cell does: begin and the first statement in one
// round trip, then each statement, then the commit. first may be "".
func pipelined(ctx context.Context, conn *pgx.Conn, first string, args []any, f func(tx pgx.Tx) error) error {
	var b pgx.Batch
	b.BeginTx(pgx.TxOptions{})
	if first != "" {
		b.Queue(first, args...)
	}
	br := conn.SendBatch(ctx, &b)
	err := br.Close()
	tx := br.Tx()
	if err == nil {
		err = f(tx)
	}
	if err == nil {
		return tx.Commit(ctx)
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = tx.Rollback(clean) // the error that matters is there
	return err
}

const (
	enterSQL  = `SELECT cell.enter($1, $2)`
	insertSQL = `INSERT INTO projects.projects (tenant_id, id, name) VALUES ($1, $2, 'by a client')`
)

var nextRow atomic.Int64

// rowID is an id that no other row of this run has, greater than those before.
func rowID() string { return fmt.Sprintf("row_%012d", nextRow.Add(1)) }

// insertOne writes one row in a tenant's name.
func insertOne(ctx context.Context, conn *pgx.Conn, tenant directory.TenantID, epoch directory.Epoch) error {
	return pipelined(ctx, conn, enterSQL, []any{tenant, epoch}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertSQL, tenant, rowID())
		return err
	})
}

// refused reports whether an error is the fence's.
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "CF001"
}

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// A change is what a mutation did, besides the rows that it wrote itself.
type change struct {
	writes          pgx.Batch // statements still to be sent, before anything of the below
	action, subject string
	before, after   any // nil or what json.Marshal takes
	tenant          directory.TenantID
	cell            directory.CellID
	publish         bool             // routers have to know: a new version for tenant or cell
	digest          directory.Digest // of what they will read then; zero: not known yet
}

// attempts bounds how often a mutation runs that Postgres broke off. The order of
// locks leaves no known deadlock; should one come with a later change, a caller
// does not suffer for it.
const attempts = 4

// mutate runs fn in a READ COMMITTED transaction and commits it with the audit
// line and the version that fn's change asks for; a nil change is no mutation.
func (s *Store) mutate(ctx context.Context, what string, fn func(tx pgx.Tx) (*change, error)) error {
	return s.mutateAfter(ctx, what, func(*pgx.Batch) {}, fn)
}

// mutateAfter is mutate whose first statements are known: they go out with BEGIN,
// in one message, and are answered when fn runs.
func (s *Store) mutateAfter(ctx context.Context, what string, first func(b *pgx.Batch), fn func(tx pgx.Tx) (*change, error)) error {
	for n := 1; ; n++ {
		err := s.once(ctx, first, fn)
		code := pg.Code(err)
		if n == attempts || code != pg.DeadlockDetected && code != pg.SerializationFailure {
			return fail(ctx, what, err)
		}
		select {
		case <-time.After(rand.N(20 * time.Millisecond)):
		case <-ctx.Done():
			return fail(ctx, what, ctx.Err())
		}
	}
}

// once is one attempt of a mutation.
func (s *Store) once(ctx context.Context, first func(b *pgx.Batch), fn func(tx pgx.Tx) (*change, error)) error {
	return pg.InTxAfter(ctx, s.pool, pgx.TxOptions{}, first, func(tx pgx.Tx) error {
		c, err := fn(tx)
		if err != nil || c == nil {
			return err
		}
		return commit(ctx, tx, c)
	})
}

const insertAudit = `
	INSERT INTO directory.audit (actor, action, subject, before, after)
	VALUES ($1, $2, $3, $4, $5)`

// publish takes the version row, which stays locked until the commit, and tells
// the listeners of every process; they hear of it when the commit is visible. The
// head is directory.Head.After.
const publish = `
	  WITH next AS (UPDATE directory.version
	                   SET version = version + 1, head = sha256(head || int8send(version + 1) || $3::bytea)
	             RETURNING version),
	       line AS (INSERT INTO directory.changes (version, tenant, cell, digest)
	                SELECT version, NULLIF($1::bigint, 0), NULLIF($2::text, ''), $3 FROM next)
	SELECT pg_notify('` + channel + `', '` + aboutTable + `') FROM next`

// commit writes what is left of the change, the audit line and, last of all, the
// version, with the COMMIT in one message. What routers will read of the subject,
// which this transaction has locked, is read before that: nobody waits for it with
// the version row.
func commit(ctx context.Context, tx pgx.Tx, c *change) error {
	before, err := document(c.before)
	if err != nil {
		return err
	}
	after, err := document(c.after)
	if err != nil {
		return err
	}
	last, d := &c.writes, c.digest
	if c.publish && d == (directory.Digest{}) {
		queueDigest(last, c, &d)
		if err := tx.SendBatch(ctx, last).Close(); err != nil {
			return err
		}
		last = &pgx.Batch{}
	}
	last.Queue(insertAudit, directory.Actor(ctx), c.action, c.subject, before, after)
	if c.publish {
		last.Queue(publish, int64(c.tenant), string(c.cell), d[:])
	}
	committed := pg.QueueCommit(last)
	if err := tx.SendBatch(ctx, last).Close(); !*committed {
		return err
	}
	return nil
}

// queueDigest reads into d the digest of the change's subject as the feed will say it.
func queueDigest(batch *pgx.Batch, c *change, d *directory.Digest) {
	if c.tenant == 0 {
		batch.Queue(oneCell, string(c.cell)).Query(func(rows pgx.Rows) error {
			cell, err := pgx.CollectExactlyOneRow(rows, scanCellRoute)
			*d = cell.Digest()
			return err
		})
		return
	}
	batch.Queue(oneRoute, int64(c.tenant)).Query(func(rows pgx.Rows) error {
		route, err := pgx.CollectExactlyOneRow(rows, scanRoute)
		*d = route.Digest()
		return err
	})
}

// document is v as JSON, NULL for nil.
func document(v any) (*string, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode audit line: %w", err)
	}
	text := string(b)
	return &text, nil
}

// Further SQLSTATEs: 22021 is text that Postgres cannot keep, class 57P is a
// server that stops or starts, 53300 one without a free connection.
const (
	badText         = "22021"
	adminShutdown   = "57P01"
	crashShutdown   = "57P02"
	cannotConnect   = "57P03"
	tooManyConnects = "53300"
)

// fail gives err, which broke off what, its kind: the caller's context first,
// then what the rules said, then what is wrong with the database.
func fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if _, ruled := errors.AsType[*problem.Error](err); ruled {
		return err
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch pg.Code(err) {
	case badText:
		return problem.Wrap(problem.Invalid, err, "text holds a character that cannot be kept")
	case adminShutdown, crashShutdown, cannotConnect, tooManyConnects:
		return problem.Wrap(problem.Unavailable, err, unavailable)
	}
	if unreachable(err) {
		return problem.Wrap(problem.Unavailable, err, unavailable)
	}
	return err
}

const unavailable = "the directory's database does not answer"

func unreachable(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

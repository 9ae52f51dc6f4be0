package cell

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/contract"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Headers of the Idempotency-Key draft.
const (
	idempotencyKey      = "Idempotency-Key"
	idempotencyReplayed = "Idempotency-Replayed"
)

// keyForm is the contract's, and what the table takes. An operation may leave the header
// out of its contract and takes one all the same.
var keyForm = regexp.MustCompile(`^[!-~]{1,255}$`)

// lockKey serialises the requests with one key. It is a statement of its own, so
// that findKey's snapshot is taken after the lock was. It has two numbers: those of
// one are fences and session locks, and a client can choose a key for its hash.
const lockKey = `
	SELECT pg_try_advisory_xact_lock(hashint8($1), hashtext($2))`

const findKey = `
	SELECT request_hash, status, headers, body
	  FROM api.idempotency
	 WHERE tenant_id = $1 AND key = $2`

const keepKey = `
	INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body)
	VALUES ($1, $2, $3, $4, $5, $6)`

// errNotKept rolls back a request that did not succeed: it must leave nothing.
var errNotKept = errors.New("answer is not kept")

// once serves r in one transaction together with the record of its answer, so that
// a repetition finds either both or neither. The answer is sent after the commit.
func (s *Server) once(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key, hash := r.Header.Get(idempotencyKey), requestHash(r)
	if !keyForm.MatchString(key) {
		Problem(w, r, contract.Invalid([]problem.Field{{Pointer: "header/" + idempotencyKey, Detail: "must be 1 to 255 visible ASCII characters"}}))
		return
	}
	c := callFrom(r.Context())
	var before kept
	var answer *answer
	err := s.db.inTenantFirst(r.Context(), func(b *pgx.Batch) { before.find(b, c.tenant, key) }, func(ctx context.Context, tx *store.Tx) (err error) {
		if answer, err = before.replay(hash); err != nil || answer != nil {
			return err
		}
		c.tx = tx
		defer func() { c.tx = nil }()
		answer = newAnswer()
		next.ServeHTTP(answer, r.WithContext(ctx))
		answer.WriteHeader(http.StatusOK) // of a handler that has said nothing, as net/http does
		if answer.status < 200 || answer.status > 299 {
			return errNotKept
		}
		tx.Queue(keepKey, tx.Tenant, key, hash, answer.status, answer.header, append([]byte{}, answer.body.Bytes()...))
		return nil
	})
	switch {
	case err == nil, errors.Is(err, errNotKept):
		answer.send(w)
	case keptAlready(err):
		Problem(w, r, underWay(err))
	default:
		Problem(w, r, fmt.Errorf("serve once: %w", err))
	}
}

// keptAlready reports whether err is that another request's answer is kept under the
// key. The lock keeps that from happening, among processes that take the same one;
// while a release goes out, the primary key decides.
func keptAlready(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == pg.UniqueViolation && e.SchemaName == "api" && e.ConstraintName == "idempotency_pkey"
}

func underWay(cause error) error {
	return again(problem.Conflict, cause, "a request with this Idempotency-Key is under way")
}

// A kept is what is known of a key before its request is served.
type kept struct {
	free, found bool // nobody is serving it; somebody has
	hash        []byte
	answer      *answer
}

// find asks for it, with the first statements of the transaction.
func (k *kept) find(b *pgx.Batch, t directory.TenantID, key string) {
	b.Queue(lockKey, t, key).QueryRow(func(row pgx.Row) error { return row.Scan(&k.free) })
	b.Queue(findKey, t, key).QueryRow(func(row pgx.Row) error {
		a, body := newAnswer(), []byte(nil)
		err := row.Scan(&k.hash, &a.status, &a.header, &body)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		a.body.Write(body)
		k.found, k.answer = true, a
		return err
	})
}

// replay is the answer that the key has already had, nil where this is the first time.
func (k *kept) replay(hash []byte) (*answer, error) {
	switch {
	case !k.free:
		return nil, underWay(nil)
	case !k.found:
		return nil, nil
	case !bytes.Equal(k.hash, hash):
		return nil, problem.New(problem.KeyReused, "this Idempotency-Key was used with another request")
	}
	k.answer.header.Set(idempotencyReplayed, "true")
	return k.answer, nil
}

// requestHash identifies what a request asks for: parts are length-prefixed, so
// that no two requests run together to the same text.
func requestHash(r *http.Request) []byte {
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("If-Match"), string(callFrom(r.Context()).body)} {
		_ = binary.Write(h, binary.BigEndian, int64(len(part))) // a hash never fails
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// An answer is a response that is held back.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

// Header is the answer's header.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the first status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write collects the body.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func (a *answer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the peer is gone; the effect is kept
}

// Package jobs does a tenant's work later, or again and again.
//
// A job is a row of its tenant, written in the transaction that asks for it
// ([Enqueue]) and ended in the transaction of its effect ([Runner]): it is done if
// and only if its effect is there, once. A worker that dies loses its claim after
// a time, and a tenant that moves takes its jobs along: there, a claim of an older
// epoch is void. A [Schedule] makes a job for each time that it is due, once.
package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// channel is where a commit tells the runners that a tenant has something to do.
const channel = "cell_job"

// DefaultAttempts is how often a job is tried where New does not say.
const DefaultAttempts = 8

// maxPayload bounds a payload in bytes; larger things belong into a table.
const maxPayload = 64 << 10

// A Job is one piece of work, as its handler gets it.
type Job struct {
	ID      string // the same in every attempt: what an outside effect is repeated under
	Kind    string
	Key     string // "" where it has none
	Payload json.RawMessage
	Attempt int       // 1 for the first
	Due     time.Time // from when on it could run; of a schedule's job, the schedule's time

	max         int // attempts
	traceparent string
	until       time.Time // the claim's end, as the database has it
	waited      time.Duration
}

// A Kind is what there is to do, and how.
type Kind struct {
	// Name is unique in the cell: the module, a dot, and what is done. A kind goes in two
	// releases: in the first its Handle ends what plans it (Unplan) and does nothing else.
	// Jobs and schedules of a kind that no worker knows stay, and wait for one that does.
	Name string
	// Handle does the job within tx, which also ends it: both or neither. An error
	// or a panic is tried again; what is Unavailable is no attempt, and tried again
	// without an end. It should be short: a move of the tenant waits for it. The job's
	// row is locked before Handle is called, so a Handle that locks rows must not lock
	// those that are locked when this kind is enqueued.
	Handle func(ctx context.Context, tx *store.Tx, j Job) error
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

func validate(kinds []Kind) error {
	for i, k := range kinds {
		if !nameForm.MatchString(k.Name) || k.Handle == nil {
			return fmt.Errorf("job kind %q: needs a name that matches %s, and a function", k.Name, nameForm)
		}
		if slices.ContainsFunc(kinds[:i], func(o Kind) bool { return o.Name == k.Name }) {
			return fmt.Errorf("job kind %q: the name is there twice", k.Name)
		}
	}
	return nil
}

// call runs the handler; a panic is an error.
func (k Kind) call(ctx context.Context, tx *store.Tx, j Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return k.Handle(ctx, tx, j)
}

// New is a job as it is asked for.
type New struct {
	Kind     string
	Key      string    // of a kind, the tenant has one job with it: a new one replaces it; "": any number
	Payload  any       // becomes JSON
	At       time.Time // not before; zero, or what is over, is at once
	Attempts int       // 0 is DefaultAttempts; one whose worker is killed counts, though Handle may not have run
}

// enqueue gives a job that it replaces another id: who has claimed the old one
// finds it gone. Where that is being done right now, this waits for its end. A time that is
// over counts as now: how late jobs are is measured from then on, and who asks may be a client.
const enqueue = `
	INSERT INTO cell.job (tenant_id, id, kind, key, payload, max_attempts, traceparent, due_at, run_at)
	SELECT $1, $2, $3, nullif($4, ''), $5, $6, $7, d.at, d.at
	  FROM (SELECT greatest($8::timestamptz, clock_timestamp())) AS d (at)
	    ON CONFLICT (tenant_id, kind, key) DO UPDATE
	   SET id = excluded.id, payload = excluded.payload, state = 'available', attempt = 0,
	       max_attempts = excluded.max_attempts, due_at = excluded.due_at, run_at = excluded.run_at,
	       claimed_epoch = NULL, claimed_until = NULL, error = '', traceparent = excluded.traceparent, ended_at = NULL
	RETURNING run_at <= clock_timestamp()`

// Enqueue asks for a job in tx: it will be done if and only if tx commits. It
// returns the job's id.
func Enqueue(ctx context.Context, tx *store.Tx, n New) (id string, err error) {
	payload, err := encode(n.Kind, n.Payload)
	if err != nil {
		return "", err
	}
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("enqueue %s: %w", n.Kind, err)
	}
	if n.Attempts == 0 {
		n.Attempts = DefaultAttempts
	}
	var at *time.Time
	if !n.At.IsZero() {
		at = &n.At
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	var due bool
	err = tx.QueryRow(ctx, enqueue, tx.Tenant, u.String(), n.Kind, n.Key, payload, n.Attempts, carrier["traceparent"], at).Scan(&due)
	if err != nil {
		return "", fmt.Errorf("enqueue %s: %w", n.Kind, err)
	}
	if due {
		tx.Notify(channel, note(tx.Tenant, tx.Epoch))
	}
	return u.String(), nil
}

func encode(kind string, payload any) (string, error) {
	if !nameForm.MatchString(kind) {
		return "", fmt.Errorf("job kind %q does not match %s", kind, nameForm)
	}
	b, err := json.Marshal(payload)
	if err != nil {
		return "", fmt.Errorf("encode payload of %s: %w", kind, err)
	}
	if len(b) > maxPayload {
		return "", fmt.Errorf("payload of %s has %d bytes, over %d", kind, len(b), maxPayload)
	}
	return string(b), nil
}

const cancel = `
	DELETE FROM cell.job
	 WHERE tenant_id = $1 AND kind = $2 AND key = ANY ($3)`

// Cancel takes back the jobs of a kind with these keys, whatever their state.
// One that is being done right now is waited for: its effect stays.
func Cancel(ctx context.Context, tx *store.Tx, kind string, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, cancel, tx.Tenant, kind, keys); err != nil {
		return fmt.Errorf("cancel %s: %w", kind, err)
	}
	return nil
}

// note is what a notification says.
func note(t directory.TenantID, e directory.Epoch) string {
	return strconv.FormatInt(int64(t), 10) + " " + strconv.FormatInt(int64(e), 10)
}

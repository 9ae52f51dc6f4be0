package fence

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// SQLSTATEs of cell.enter and of the guard.
const (
	codeRefused = "CF001" // not active, or at another epoch
	codeSuspect = "CF002" // nobody is served before the directory was asked
)

// suspectRetry is when a caller may ask a suspect cell again.
const suspectRetry = time.Second

// detail is what cell.refuse writes.
type detail struct {
	State   State            `json:"state"`
	Epoch   directory.Epoch  `json:"epoch"`
	MovedTo directory.CellID `json:"moved_to"`
}

// Refusal turns cell.enter's error into problem.Stale with the members state,
// epoch and, where it is known, cell; a suspect fence into problem.Unavailable.
// Another error comes back as it is. After a refusal nothing was done: it is the
// transaction's first statement.
func Refusal(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || (e.Code != codeRefused && e.Code != codeSuspect) {
		return err
	}
	var d detail
	if json.Unmarshal([]byte(e.Detail), &d) != nil {
		return err
	}
	kind, text := problem.Stale, "this cell does not serve the tenant at that epoch"
	if d.State == Deleted {
		text = "the tenant is deleted"
	}
	if e.Code == codeSuspect {
		kind, text = problem.Unavailable, "this cell asks the directory before it serves the tenant again"
	}
	p := problem.Wrap(kind, err, text).With("state", string(d.State)).With("epoch", strconv.FormatInt(int64(d.Epoch), 10))
	if d.MovedTo != "" {
		p = p.With("cell", string(d.MovedTo))
	}
	if kind == problem.Unavailable {
		p.RetryAfter = suspectRetry
	}
	return p
}

// Refused reads back what Refusal wrote, also on the far side of an HTTP hop.
func Refused(err error) (Fence, bool) {
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || e.Extra["state"] == "" {
		return Fence{}, false
	}
	epoch, convErr := strconv.ParseInt(e.Extra["epoch"], 10, 64)
	if convErr != nil {
		return Fence{}, false
	}
	return Fence{State: State(e.Extra["state"]), Epoch: directory.Epoch(epoch), MovedTo: directory.CellID(e.Extra["cell"])}, true
}

// IsSuspect reports whether err is a refusal of everybody: the database has not been
// found whole since its server was started.
func IsSuspect(err error) bool {
	f, ok := Refused(Refusal(err))
	return ok && f.State == Suspect && f.Epoch == 0
}

// IsAbsent reports whether err is a refusal because the tenant never was here.
func IsAbsent(err error) bool {
	f, ok := Refused(err)
	return ok && f.State == Absent
}

// Package problem gives errors a kind that survives an HTTP hop.
//
// A [Kind] exists only where a caller acts on it. [Write] turns an error into
// an RFC 9457 problem document and [Read] turns the document back, so that
// errors.Is(err, problem.Stale) is true on both sides. The text of an error
// without a kind never leaves the process: it becomes a bare 500.
package problem

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Kind is the machine-readable class of an error: the "code" member of the
// problem document. Kinds are errors, so errors.Is(err, problem.NotFound) works.
type Kind string

// The kinds, each with the HTTP status that carries it.
const (
	Invalid            Kind = "invalid"              // 400: the request breaks its contract
	TenantConflict     Kind = "tenant-conflict"      // 400: two sources name different tenants
	ReservedHeader     Kind = "reserved-header"      // 400: a header of ours came from outside
	Unauthenticated    Kind = "unauthenticated"      // 401: no valid token
	Forbidden          Kind = "forbidden"            // 403: known, and not allowed
	TenantSuspended    Kind = "tenant-suspended"     // 403: the tenant is suspended
	NotFound           Kind = "not-found"            // 404
	TenantNotFound     Kind = "tenant-not-found"     // 404: no such tenant in the table
	MethodNotAllowed   Kind = "method-not-allowed"   // 405
	Conflict           Kind = "conflict"             // 409: compare-and-set lost, name taken, wrong state
	Gone               Kind = "gone"                 // 410: too old to continue from; start again from a snapshot
	PreconditionFailed Kind = "precondition-failed"  // 412: If-Match does not hold
	TooLarge           Kind = "too-large"            // 413
	TargetTooLong      Kind = "target-too-long"      // 414
	ExpectationFailed  Kind = "expectation-failed"   // 417
	Stale              Kind = "stale_epoch"          // 421: the caller knows an older placement; look up and repeat
	AssertionRefused   Kind = "assertion-refused"    // 421: the cell does not take what a router signed; nothing was done
	Misdirected        Kind = "misdirected"          // 421: the connection is for another name
	KeyReused          Kind = "idempotency-mismatch" // 422: Idempotency-Key reused with another body
	RateLimited        Kind = "rate-limited"         // 429
	HeadTooLarge       Kind = "head-too-large"       // 431
	Internal           Kind = "internal"             // 500
	BadGateway         Kind = "bad-gateway"          // 502: the cell answered with garbage
	TenantMoving       Kind = "tenant-moving"        // 503: held longer than the bound
	CellUnavailable    Kind = "cell-unavailable"     // 503: the owning cell does not answer
	Unavailable        Kind = "unavailable"          // 503: this process cannot answer now
	Timeout            Kind = "timeout"              // 504
	VersionRefused     Kind = "version-refused"      // 505: not a version of HTTP that is spoken here
)

var statuses = map[Kind]int{
	Invalid: 400, TenantConflict: 400, ReservedHeader: 400, Unauthenticated: 401,
	Forbidden: 403, TenantSuspended: 403, NotFound: 404, TenantNotFound: 404,
	MethodNotAllowed: 405, Conflict: 409, Gone: 410, PreconditionFailed: 412,
	TooLarge: 413, TargetTooLong: 414, ExpectationFailed: 417, Stale: 421, AssertionRefused: 421, Misdirected: 421, KeyReused: 422, RateLimited: 429, HeadTooLarge: 431,
	Internal: 500, BadGateway: 502, TenantMoving: 503, CellUnavailable: 503,
	Unavailable: 503, Timeout: 504, VersionRefused: 505,
}

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Status is the HTTP status that carries k; 500 for a kind that is not known.
func (k Kind) Status() int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// A Field names one part of the input that is wrong.
type Field struct {
	Pointer string `json:"pointer"` // RFC 6901 pointer into the body, or "query/limit", "header/If-Match"
	Detail  string `json:"detail"`
}

// An Error is an error with a kind and, optionally, what a caller needs to act.
type Error struct {
	Kind       Kind
	Detail     string            // one sentence for the person who called; never internal text
	Fields     []Field           // which parts of the input are wrong
	Extra      map[string]string // further members of the document, such as "epoch" or "cell"
	RetryAfter time.Duration     // when to try again; 0 says nothing
	Allow      string            // of MethodNotAllowed, which owes it (RFC 9110, 15.5.6): the methods that there are
	Cause      error             // logged, never sent
}

// New makes an Error of kind k. A %w operand becomes its cause's chain, but the
// whole formatted text is the detail that callers see: wrap only what they may read.
func New(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Detail: err.Error(), Cause: errors.Unwrap(err)}
}

// Wrap gives cause a kind and a detail that may be shown, keeping cause for the log.
func Wrap(k Kind, cause error, detail string) *Error {
	return &Error{Kind: k, Detail: detail, Cause: cause}
}

// With returns e with one more member of the document.
func (e *Error) With(key, value string) *Error {
	if e.Extra == nil {
		e.Extra = map[string]string{}
	}
	e.Extra[key] = value
	return e
}

// After returns e, which says that it may be tried again after d.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// Allows returns e, which says which methods there are.
func (e *Error) Allows(methods ...string) *Error {
	e.Allow = strings.Join(methods, ", ")
	return e
}

// Error is the detail alone, which may end up in another error's detail: a cause
// that callers may not read stays out of it. Describe has both.
func (e *Error) Error() string {
	switch {
	case e.Detail == "" && e.Cause != nil:
		return fmt.Sprintf("%s: %v", e.Kind, e.Cause)
	case e.Detail == "":
		return string(e.Kind)
	}
	return e.Detail
}

// Is reports whether target is e's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Describe is err's text for the log: with the causes that the details of the
// Errors in its chain leave out.
func Describe(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for e := (*Error)(nil); errors.As(err, &e) && e.Cause != nil; err = e.Cause {
		if cause := e.Cause.Error(); !strings.Contains(text, cause) {
			text += ": " + cause
		}
	}
	return text
}

// Cut is text, at most so many bytes of it, and then a sign that there was more.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// KindOf is the kind of the first Error in err's chain, Internal where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if k, ok := errors.AsType[Kind](err); ok {
		return k
	}
	return Internal
}

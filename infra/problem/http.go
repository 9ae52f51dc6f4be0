package problem

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// ContentType is RFC 9457's media type.
const ContentType = "application/problem+json"

// typeBase is where docs/ERRORS.md is published; the kind is the anchor of its row.
const typeBase = "https://cellway.github.io/errors#"

// challenge is what an answer of 401 says that is wanted (RFC 9110, 15.5.2).
const challenge = `Bearer realm="cellway"`

// maxBody bounds what Read takes from a peer.
const maxBody = 64 << 10

// A document is the wire form.
type document struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail,omitempty"`
	Instance  string            `json:"instance,omitempty"`
	Code      Kind              `json:"code"`
	RequestID string            `json:"request_id,omitempty"`
	TraceID   string            `json:"trace_id,omitempty"`
	Source    string            `json:"source,omitempty"`
	Errors    []Field           `json:"errors,omitempty"`
	Extra     map[string]string `json:"extra,omitempty"`
}

// Where says which process wrote a problem and for which request.
type Where struct {
	Source    string // "router", "cell", "directory"
	RequestID string
	TraceID   string
	Instance  string // the request's path
}

// Write answers with err as a problem document.
func Write(w http.ResponseWriter, err error, where Where) {
	a := Make(err, where)
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	if a.RetryAfter != "" {
		h.Set("Retry-After", a.RetryAfter)
	}
	if a.Allow != "" {
		h.Set("Allow", a.Allow)
	}
	if a.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the peer is gone; nobody is left to tell
}

// An Answer is what Write writes, besides ContentType and that nobody may keep it.
type Answer struct {
	Status     int
	RetryAfter string // the field; "" is none
	Allow      string // as RetryAfter
	Body       []byte
}

// Make is the answer with err as a problem document. Text of an error that has no
// kind is not in it: it may hold what a tenant must not see.
func Make(err error, where Where) Answer {
	const mostInstance = 256 // bytes: a client's own words must not make the answer long
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Kind: KindOf(err)}
	}
	a := Answer{Status: e.Kind.Status(), Allow: e.Allow}
	if e.RetryAfter > 0 {
		a.RetryAfter = strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds())))
	}
	a.Body, _ = json.Marshal(document{ // strings and numbers: it cannot fail
		Type: typeBase + string(e.Kind), Title: http.StatusText(a.Status), Status: a.Status,
		Detail: e.Detail, Instance: Cut(where.Instance, mostInstance), Code: e.Kind, RequestID: where.RequestID,
		TraceID: where.TraceID, Source: where.Source, Errors: e.Fields, Extra: e.Extra,
	})
	a.Body = append(a.Body, '\n')
	return a
}

// Said is Read for who acts on what its peer says, in an answer that is not the one it was asked for: that something
// is not there, is gone or is otherwise is for the peer alone to say. A page without a problem in it, or of a success,
// is of a proxy between us and says nothing of the peer: of the kind otherwise.
func Said(resp *http.Response, otherwise Kind) error {
	err := Read(resp)
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	page := kind != ContentType
	if page && (resp.StatusCode < http.StatusBadRequest || errors.Is(err, NotFound) || errors.Is(err, Gone) || errors.Is(err, Conflict)) {
		return New(otherwise, "an answer with status %d that has no problem in it", resp.StatusCode)
	}
	return err
}

// Read turns a response of status >= 400 back into an error. It reads and does
// not close the body. A response that is no problem document keeps its status.
func Read(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Wrap(Unavailable, err, "answer cut short")
	}
	var doc document
	if json.Unmarshal(body, &doc) != nil || doc.Code == "" {
		return New(FromStatus(resp.StatusCode), "answer with status %d", resp.StatusCode)
	}
	e := &Error{Kind: doc.Code, Detail: doc.Detail, Fields: doc.Errors, Extra: doc.Extra}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// FromStatus is the kind of an answer that names none. 421 is not Stale here: only
// a cell's own document promises that nothing was done.
func FromStatus(status int) Kind {
	switch status {
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return Forbidden
	case http.StatusNotFound:
		return NotFound
	case http.StatusMethodNotAllowed:
		return MethodNotAllowed
	case http.StatusConflict:
		return Conflict
	case http.StatusGone:
		return Gone
	case http.StatusPreconditionFailed:
		return PreconditionFailed
	case http.StatusRequestEntityTooLarge:
		return TooLarge
	case http.StatusRequestURITooLong:
		return TargetTooLong
	case http.StatusExpectationFailed:
		return ExpectationFailed
	case http.StatusTooManyRequests:
		return RateLimited
	case http.StatusRequestHeaderFieldsTooLarge:
		return HeadTooLarge
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return Unavailable
	case http.StatusGatewayTimeout:
		return Timeout
	case http.StatusHTTPVersionNotSupported:
		return VersionRefused
	}
	if status >= 400 && status < 500 {
		return Invalid
	}
	return Internal
}

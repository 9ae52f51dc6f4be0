package resource

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"strconv"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// DefaultLimit is the contract's default of limit.
const DefaultLimit = 50

// idForm is what a page may end with: visible ASCII, as ids are. A cursor that someone
// makes up may have anything in it.
var idForm = regexp.MustCompile(`^[!-~]+$`)

// sumLen is the number of checksum bytes in front of a cursor's id.
const sumLen = 12

// A List is one list of one tenant, ordered by ids of visible ASCII. The cursor of a page
// is its last id with a checksum over that and the list: what was cut, changed or taken
// from another list or tenant is noticed. It needs no secret, because a cursor that
// someone makes up opens nothing: the list is the caller's own.
type List struct {
	Tenant directory.TenantID
	Name   string // among all lists of the contract, with what it is filtered by: "projects", or "tasks/" and the project
}

func (l List) sum(after string) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "cellway cursor v1\x00%d\x00%s\x00%s", l.Tenant, l.Name, after))
	return h[:sumLen]
}

// cursor is the place behind the id after, as the caller holds it.
func (l List) cursor(after string) string {
	return base64.RawURLEncoding.EncodeToString(append(l.sum(after), after...))
}

// After is the id that the page of a cursor begins after: "", the least of all, where
// there is none.
func (l List) After(cursor *string) (string, error) {
	if cursor == nil {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	if err != nil || len(raw) <= sumLen {
		return "", BadCursor()
	}
	after := string(raw[sumLen:])
	if subtle.ConstantTimeCompare(l.sum(after), raw[:sumLen]) != 1 || !idForm.MatchString(after) {
		return "", BadCursor()
	}
	return after, nil
}

// BadCursor is the problem of a cursor that is not one of the list that it is used for.
func BadCursor() error {
	err := problem.New(problem.Invalid, "cursor is not one of this list")
	err.Fields = []problem.Field{{Pointer: "query/cursor", Detail: "must be the next_cursor of the page before"}}
	return err
}

// Cut takes the page off items, of which one more than limit was asked for. next is the
// cursor of the page behind it, "" on the last one.
func Cut[T any](l List, items []T, limit int, id func(T) string) (page []T, next string) {
	if len(items) <= limit {
		return items, ""
	}
	return items[:limit], l.cursor(id(items[limit-1]))
}

// NextLink is the Link header of a page of a list that has no filters in its query,
// relative to the page's own URL; nil on the last one.
func NextLink(next string, limit int) *string {
	if next == "" {
		return nil
	}
	q := url.Values{"cursor": {next}, "limit": {strconv.Itoa(limit)}}
	link := fmt.Sprintf(`<?%s>; rel="next"`, q.Encode())
	return &link
}

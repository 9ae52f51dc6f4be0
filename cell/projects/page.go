package projects

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

// defaultLimit is the contract's default of limit.
const defaultLimit = 50

// idForm is the contract's of ids. A cursor that someone makes up may have anything in it.
var idForm = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// sumLen is the number of checksum bytes in front of a cursor's id.
const sumLen = 12

// A place is a position in one list of one tenant. A cursor is its id with a
// checksum over all of it: what was cut, changed or taken from another list or
// tenant is noticed. It needs no secret, because a cursor that someone makes up
// opens nothing: the list is the caller's own.
type place struct {
	tenant directory.TenantID
	list   string // "projects", or "tasks/" and the project
	after  string // id of the last item of the page before
}

func (p place) sum() []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "cellway cursor v1\x00%d\x00%s\x00%s", p.tenant, p.list, p.after))
	return h[:sumLen]
}

// cursor is p as the caller holds it.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString(append(p.sum(), p.after...))
}

// parseCursor gives the id to go on after in list of tenant; nil starts it.
func parseCursor(cursor *string, tenant directory.TenantID, list string) (string, error) {
	if cursor == nil {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	if err != nil || len(raw) <= sumLen {
		return "", errCursor()
	}
	p := place{tenant: tenant, list: list, after: string(raw[sumLen:])}
	if subtle.ConstantTimeCompare(p.sum(), raw[:sumLen]) != 1 || !idForm.MatchString(p.after) {
		return "", errCursor()
	}
	return p.after, nil
}

func errCursor() error {
	err := problem.New(problem.Invalid, "cursor is not one of this list")
	err.Fields = []problem.Field{{Pointer: "query/cursor", Detail: "must be the next_cursor of the page before"}}
	return err
}

// cutPage takes the page off items, of which one more than limit was asked for.
// next is "" on the last page.
func cutPage[T any](items []T, limit int, p place, id func(T) string) (page []T, next string) {
	if len(items) <= limit {
		return items, ""
	}
	p.after = id(items[limit-1])
	return items[:limit], p.cursor()
}

// nextLink is the Link header of a page, relative to the page's own URL.
func nextLink(next string, limit int) *string {
	if next == "" {
		return nil
	}
	q := url.Values{"cursor": {next}, "limit": {strconv.Itoa(limit)}}
	link := fmt.Sprintf(`<?%s>; rel="next"`, q.Encode())
	return &link
}

func orDefault[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

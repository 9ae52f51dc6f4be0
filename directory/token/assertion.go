package token

import (
	"strconv"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// AssertionHeader carries the router's assertion to the cell.
const AssertionHeader = "Cell-Assertion"

// ReservedPrefix starts, after folding case and "_" to "-", every header name
// that is ours; from outside such a header is refused, not stripped.
const ReservedPrefix = "cell-"

// An assertion counts from futureSkew before its window to maxAge after it: long
// enough for two clocks kept by NTP and a request in a queue, too short to keep.
const (
	maxAge     = 5 * time.Second
	futureSkew = 2 * time.Second
)

const assertionDomain = "cellway assertion v1\x00"

// An Assertion is what a router says of a request to the cell it sends it to.
type Assertion struct {
	Tenant directory.TenantID
	Cell   directory.CellID
	Epoch  directory.Epoch
	Window int64 // the second, since 1970, in which it was made
}

// Assert signs a: "v1.kid.tenant.cell.epoch.window.mac". Equal assertions give
// equal text, so a router may keep one for the length of its window.
func (k Keys) Assert(a Assertion) (string, error) {
	if len(k) == 0 {
		return "", problem.New(problem.Unavailable, "no assertion key")
	}
	b := make([]byte, 0, 128)
	b = append(b, "v1."...)
	b = append(append(b, k[0].ID...), '.')
	b = append(strconv.AppendInt(b, int64(a.Tenant), 10), '.')
	b = append(append(b, a.Cell...), '.')
	b = append(strconv.AppendInt(b, int64(a.Epoch), 10), '.')
	b = strconv.AppendInt(b, a.Window, 10)
	return string(b) + "." + sign(k[0], assertionDomain, string(b)), nil
}

// errAssertion is the one answer to every bad assertion.
var errAssertion = problem.New(problem.Unauthenticated, "assertion is not valid")

// CheckAssertion verifies an assertion for the cell that received it at now.
// Missing, forged, foreign and expired ones are all Unauthenticated.
func (k Keys) CheckAssertion(s string, cell directory.CellID, now time.Time) (Assertion, error) {
	body, mac, ok := cutLast(s)
	part := strings.Split(body, ".")
	if !ok || len(part) != 6 || part[0] != "v1" {
		return Assertion{}, errAssertion
	}
	if _, ok := k.check(part[1], assertionDomain, body, mac); !ok {
		return Assertion{}, errAssertion
	}
	tenant, err1 := strconv.ParseInt(part[2], 10, 64)
	epoch, err2 := strconv.ParseInt(part[4], 10, 64)
	window, err3 := strconv.ParseInt(part[5], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || tenant <= 0 || epoch <= 0 || part[3] != string(cell) {
		return Assertion{}, errAssertion
	}
	made := time.Unix(window, 0)
	if now.Before(made.Add(-futureSkew)) || now.After(made.Add(time.Second+maxAge)) {
		return Assertion{}, errAssertion
	}
	return Assertion{Tenant: directory.TenantID(tenant), Cell: cell, Epoch: directory.Epoch(epoch), Window: window}, nil
}

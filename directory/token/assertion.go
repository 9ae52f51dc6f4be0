package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// AssertionHeader carries the router's assertion to the cell.
const AssertionHeader = "Cell-Assertion"

// RefusalHeader carries the kind of a cell's problem where the answer has no document: to
// HEAD. Routers pass on none of its names.
const RefusalHeader = "Cell-Refusal"

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

// A Signer makes assertions with memory that it uses again: of a tenant's first request
// in each second the text is all that is allocated. It is not for concurrent use.
type Signer struct {
	head string
	mac  hash.Hash
	text []byte
	sum  []byte
}

// NewSigner is a Signer with the first of the keys, or Unavailable where there is none.
func (k Keys) NewSigner() (*Signer, error) {
	if len(k) == 0 {
		return nil, problem.New(problem.Unavailable, "no assertion key")
	}
	return &Signer{head: "v1." + k[0].ID + ".", mac: hmac.New(sha256.New, k[0].Secret)}, nil
}

// AppendAssert appends a, signed, to dst: "v1.kid.tenant.cell.epoch.window.mac". Equal
// assertions give equal text, so a router may keep one for the length of its window.
func (s *Signer) AppendAssert(dst []byte, a Assertion) []byte {
	s.text = append(append(s.text[:0], assertionDomain...), s.head...)
	s.text = append(strconv.AppendInt(s.text, int64(a.Tenant), 10), '.')
	s.text = append(append(s.text, a.Cell...), '.')
	s.text = append(strconv.AppendInt(s.text, int64(a.Epoch), 10), '.')
	s.text = strconv.AppendInt(s.text, a.Window, 10)
	s.mac.Reset()
	s.mac.Write(s.text)
	s.sum = s.mac.Sum(s.sum[:0])
	dst = append(append(dst, s.text[len(assertionDomain):]...), '.')
	return base64.RawURLEncoding.AppendEncode(dst, s.sum)
}

// Assert signs one assertion; who makes many has a Signer.
func (k Keys) Assert(a Assertion) (string, error) {
	s, err := k.NewSigner()
	if err != nil {
		return "", err
	}
	return string(s.AppendAssert(nil, a)), nil
}

// errAssertion is the one answer to every bad assertion. It is not a bad token's: for
// what a router signs a client has no other token to show.
var errAssertion = problem.New(problem.AssertionRefused, "assertion is not valid")

// CheckAssertion verifies an assertion for the cell that received it at now.
// Missing, forged, foreign and expired ones are all AssertionRefused.
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

package directory

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A Head stands for the whole history of the table up to a version: SHA-256 of
// the head before, the version and the digest of what it changed. Who is at the
// same version with another head has another history. The first head of a record
// is random; zero is not known.
type Head [sha256.Size]byte

// A Digest is what a change left its subject as: the first half of a SHA-256.
type Digest [sha256.Size / 2]byte

// A Link is one change as the chain knows it: who was changed, and to what. What
// it says is in the Update, unless a later link of the same subject is.
type Link struct {
	Tenant TenantID `json:"tenant,omitempty"`
	Cell   CellID   `json:"cell,omitempty"` // where Tenant is 0
	Digest Digest   `json:"digest"`
}

// After is the head when version v has changed something to d.
func (h Head) After(v Version, d Digest) Head {
	var b [sha256.Size + 8 + len(d)]byte
	copy(b[:], h[:])
	binary.BigEndian.PutUint64(b[sha256.Size:], uint64(v)) //nolint:gosec // versions are not negative
	copy(b[sha256.Size+8:], d[:])
	return sha256.Sum256(b[:])
}

// IsZero reports whether the head is not known.
func (h Head) IsZero() bool { return h == Head{} }

// MarshalText is the head in hex.
func (h Head) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Head) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(h[:], b[:min(len(b), 2*len(h))]); err != nil || n != len(h) || len(b) != 2*n {
		return fmt.Errorf("a head is %d bytes in hex", len(h))
	}
	return nil
}

// MarshalText is the digest in base64.
func (d Digest) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, d[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(b []byte) error {
	raw, err := base64.RawURLEncoding.AppendDecode(nil, b)
	if err != nil || len(raw) != len(d) {
		return fmt.Errorf("a digest is %d bytes in base64", len(d))
	}
	copy(d[:], raw)
	return nil
}

// Digest is what r says, in a form that two different routes do not share.
func (r Route) Digest() Digest {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint64(append(b, 't'), uint64(r.Tenant)) //nolint:gosec // the bits are meant
	b = binary.BigEndian.AppendUint64(b, uint64(r.Epoch))               //nolint:gosec // the bits are meant
	b = appendField(appendField(appendField(b, string(r.Cell)), string(r.State)), r.Slug)
	for _, h := range r.Hosts {
		b = appendField(b, h)
	}
	return digest(b)
}

// Digest is what c says. Where a cell was that is retired is nobody's business.
func (c CellRoute) Digest() Digest {
	b := appendField(appendField([]byte{'c'}, string(c.ID)), string(c.State))
	if c.State != Retired {
		b = appendField(b, c.Address)
	}
	return digest(b)
}

func appendField(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) //nolint:gosec // texts are short
}

func digest(b []byte) (d Digest) {
	sum := sha256.Sum256(b)
	copy(d[:], sum[:])
	return d
}

// A Breach says that an update is not the continuation of a table.
type Breach struct{ Reason, Detail string }

// The reasons of a Breach.
const (
	Gap     = "gap"     // it begins after the table's version, or leaves changes out
	Older   = "older"   // it ends before the table's version
	Content = "content" // what it says of a subject is not what was changed
	Fork    = "fork"    // it continues another history
)

func (b *Breach) Error() string { return b.Detail + " (" + b.Reason + ")" }

func breach(reason, format string, args ...any) *Breach {
	return &Breach{reason, fmt.Sprintf(format, args...)}
}

// Continues reports, as a *Breach, why u does not bring a table that is at
// version and head to u.Version. A part of u that the table has already is passed
// over, which is no breach. A table that does not know its head takes u's; what u
// says of its own links is checked all the same. A whole table continues anything.
func (u Update) Continues(version Version, head Head) error {
	switch {
	case u.Since == 0 && len(u.Links) == 0 && u.Version > 0:
		return nil
	case u.Since > version:
		return breach(Gap, "update from version %d does not continue version %d", u.Since, version)
	case u.Version < version:
		return breach(Older, "update to version %d is older than version %d", u.Version, version)
	case u.Head.IsZero() && head.IsZero():
		return nil // a directory without a chain
	case u.Head.IsZero():
		return breach(Fork, "version %d comes without a head", u.Version)
	case Version(len(u.Links)) != u.Version-u.Since:
		return breach(Gap, "%d changes from version %d to %d", len(u.Links), u.Since, u.Version)
	}
	at := version
	for _, l := range u.Links[version-u.Since:] {
		at++
		if !head.IsZero() {
			head = head.After(at, l.Digest)
		}
	}
	if !head.IsZero() && head != u.Head {
		return breach(Fork, "version %d has head %x, the table leads to %x", u.Version, u.Head[:8], head[:8])
	}
	return u.says()
}

// says checks that u has what its links end with, and nothing else.
func (u Update) says() error {
	type subject struct {
		tenant TenantID
		cell   CellID
	}
	last := make(map[subject]Digest, len(u.Links))
	for _, l := range u.Links {
		last[subject{l.Tenant, l.Cell}] = l.Digest
	}
	if len(last) != len(u.Routes)+len(u.Cells) {
		return breach(Content, "version %d changed %d subjects and says %d", u.Version, len(last), len(u.Routes)+len(u.Cells))
	}
	for _, r := range u.Routes {
		if d, ok := last[subject{tenant: r.Tenant}]; !ok || d != r.Digest() {
			return breach(Content, "version %d does not say of tenant %d what was changed", u.Version, r.Tenant)
		}
	}
	for _, c := range u.Cells {
		if d, ok := last[subject{cell: c.ID}]; !ok || d != c.Digest() {
			return breach(Content, "version %d does not say of cell %s what was changed", u.Version, c.ID)
		}
	}
	return nil
}

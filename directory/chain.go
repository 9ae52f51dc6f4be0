package directory

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// A Head stands for the whole history of the table, or of the credentials, up to a
// version: SHA-256 of the head before, the version and the digest of what it changed. Who is at the
// same version with another head has another history. The first head of a record
// is random; zero is not known.
type Head [sha256.Size]byte

// A Digest is what a change left its subject as: the first half of a SHA-256.
type Digest [sha256.Size / 2]byte

// A Link is one change as the chain knows it: who was changed, and to what. What
// it says is in the Update, unless a later link of the same subject is. A link of
// credentials has the id of a key or a revoked token.
type Link struct {
	Tenant     TenantID `json:"tenant,omitempty"`
	Cell       CellID   `json:"cell,omitempty"` // where Tenant is 0
	Credential string   `json:"credential,omitempty"`
	Digest     Digest   `json:"digest"`
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

// Digest is what c says. Where a cell was that is retired is nobody's business, and
// Unheard says nothing of the cell.
func (c CellRoute) Digest() Digest {
	b := appendField(appendField([]byte{'c'}, string(c.ID)), string(c.State))
	if c.State != Retired {
		b = appendField(b, c.Address)
	}
	return digest(b)
}

// Digest is what k says, to the second: what a router goes by.
func (k Key) Digest() Digest {
	b := appendField(appendField([]byte{'k'}, k.ID), k.Hash)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Tenant)) //nolint:gosec // the bits are meant
	if k.Revoked {
		return digest(append(b, 'r'))
	}
	return digest(appendTime(b, k.ExpiresAt))
}

// Digest is what t says, to the second.
func (t RevokedToken) Digest() Digest {
	b := appendField([]byte{'x'}, t.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Tenant)) //nolint:gosec // the bits are meant
	return digest(appendTime(b, t.ExpiresAt))
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.Unix())) //nolint:gosec // the bits are meant
}

func appendField(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) //nolint:gosec // texts are short
}

func digest(b []byte) (d Digest) {
	sum := sha256.Sum256(b)
	copy(d[:], sum[:])
	return d
}

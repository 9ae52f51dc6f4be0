package token

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Key signs, or where it has no Secret only checks tokens that are no tenants'.
// ID is public and says which key to check with.
type Key struct {
	ID      string
	Secret  []byte
	Public  ed25519.PublicKey
	control ed25519.PrivateKey // of Public; nil without a Secret
}

// Keys are what is accepted; the first one signs. To rotate: add the new key at
// the end everywhere, then move it to the front, then drop the old one.
type Keys []Key

// minSecret is the least length of a secret in bytes: HMAC-SHA256's security level.
const minSecret = 32

// Who gets which keys: the directory all; routers what tenants' tokens are signed with, and the
// assertions' keys; movers what they sign with for cells; a cell what routers sign with for it
// and for nobody else, and the movers' public keys.
const (
	Tenants = "tenants"
	Movers  = "movers"
)

// OfCell is the name, for Keys.For, of what is a cell's.
func OfCell(c directory.CellID) string { return "cell/" + string(c) }

// ParseKeys reads "id:base64,id:base64": ids of [a-z0-9-], each once, secrets of
// at least 32 bytes.
func ParseKeys(s string) (Keys, error) {
	return parse(s, func(id string, raw []byte) (Key, error) {
		if len(raw) < minSecret {
			return Key{}, problem.New(problem.Invalid, "key %s is shorter than %d bytes", id, minSecret)
		}
		return newKey(id, raw), nil
	})
}

// ParsePublic reads what the Text of Public's keys is.
func ParsePublic(s string) (Keys, error) {
	return parse(s, func(id string, raw []byte) (Key, error) {
		if id, ok := strings.CutPrefix(id, publicPrefix); ok && len(raw) == ed25519.PublicKeySize {
			return Key{ID: id, Public: raw}, nil
		}
		return Key{}, problem.New(problem.Invalid, "key %s is not public: directory derive-keys --for public makes one", id)
	})
}

// publicPrefix of an id says that what follows is no secret, so that neither passes for the other.
const publicPrefix = "public-"

func parse(s string, key func(id string, raw []byte) (Key, error)) (Keys, error) {
	var keys Keys
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		id, secret, ok := strings.Cut(part, ":")
		raw, err := base64.StdEncoding.DecodeString(secret)
		if !ok || err != nil || id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, problem.New(problem.Invalid, "keys must be id:base64,... with ids of a-z, 0-9 and -")
		}
		k, err := key(id, raw)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(keys, func(o Key) bool { return o.ID == k.ID }) {
			return nil, problem.New(problem.Invalid, "key %s is there twice", id)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// newKey is the key of a secret, which the key of control tokens is made from.
func newKey(id string, secret []byte) Key {
	k := Key{ID: id, Secret: secret, control: ed25519.NewKeyFromSeed(derive(secret, "control", ed25519.SeedSize))}
	k.Public = k.control.Public().(ed25519.PublicKey)
	return k
}

// derive makes a secret of a secret for one purpose (HKDF-Expand, RFC 5869): it tells nothing of the
// one that it was made from.
func derive(secret []byte, purpose string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, secret, "cellway key v1 "+purpose, n)
	if err != nil {
		panic(err) // of a length that nobody asks for
	}
	return out
}

// For is the keys, by the same ids, that stand for these with whom has a part: Tenants,
// Movers or OfCell. They tell nothing of these, and what they sign these do not accept.
func (k Keys) For(whom string) Keys {
	out := make(Keys, len(k))
	for i := range k {
		out[i] = newKey(k[i].ID, derive(k[i].Secret, "for "+whom, minSecret))
	}
	return out
}

// Public is the keys for who only checks tokens that are no tenants'.
func (k Keys) Public() Keys {
	out := make(Keys, len(k))
	for i := range k {
		out[i] = Key{ID: k[i].ID, Public: k[i].Public}
	}
	return out
}

// Text is what ParseKeys, or of public keys ParsePublic, reads. It has the secrets: it is no
// String, which logs would print.
func (k Keys) Text() string {
	parts := make([]string, len(k))
	for i := range k {
		id, raw := k[i].ID, k[i].Secret
		if raw == nil {
			id, raw = publicPrefix+id, k[i].Public
		}
		parts[i] = id + ":" + base64.StdEncoding.EncodeToString(raw)
	}
	return strings.Join(parts, ",")
}

// NewKey makes a key in ParseKeys' form from the system's random source.
func NewKey(id string) string {
	secret := make([]byte, minSecret)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	return id + ":" + base64.StdEncoding.EncodeToString(secret)
}

// Have reports whether a key is accepted now, its secret and all.
func (k Keys) Have(key Key) bool {
	for i := range k {
		if k[i].ID == key.ID {
			return subtle.ConstantTimeCompare(k[i].Secret, key.Secret) == 1
		}
	}
	return false
}

func (k Key) sign(domain, body string) string {
	m := hmac.New(sha256.New, k.Secret)
	m.Write([]byte(domain))
	m.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// check is the key with the id, if the MAC is its.
func (k Keys) check(id, domain, body, mac string) (Key, bool) {
	for _, key := range k {
		if key.ID == id && key.Secret != nil {
			return key, hmac.Equal([]byte(key.sign(domain, body)), []byte(mac))
		}
	}
	return Key{}, false
}

func (k Key) signControl(body string) string {
	return base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.control, []byte(controlDomain+body)))
}

// checkControl is the key with the id, if the signature of a token that is no tenant's is its.
func (k Keys) checkControl(id, body, signature string) (Key, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	for _, key := range k {
		if key.ID == id && err == nil && key.Public != nil {
			return key, ed25519.Verify(key.Public, []byte(controlDomain+body), raw)
		}
	}
	return Key{}, false
}

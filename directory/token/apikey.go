package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"hash/crc32"
	"strings"

	"github.com/cellway/cellway/directory"
)

// An API key is "cwk_" + id + "_" + secret + checksum, all of fixed length and of
// letters, digits and "_" only, so that a double click selects it and a scanner
// finds it: cwk_[a-z2-7]{16}_[a-z2-7]{48}[0-9a-f]{8}. The id is public. The
// checksum tells a key from what only looks like one without asking anybody.
const (
	keyPrefix   = "cwk_"
	keyID       = 16 // 80 bits
	keySecret   = 48 // 240 bits
	keyChecksum = 8  // CRC-32 of all that is before it
	keyLen      = len(keyPrefix) + keyID + 1 + keySecret + keyChecksum
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// KeyIDLen is the length of every key's id.
const KeyIDLen = keyID

// NewAPIKey makes a key from the system's random source, and what the directory
// is to record of it: the caller adds tenant, name and expiry.
func NewAPIKey() (key string, record directory.Key) {
	var raw [(keyID + keySecret) / 8 * 5]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	text := base32Lower.EncodeToString(raw[:])
	id, secret := text[:keyID], text[keyID:]
	key = keyPrefix + id + "_" + secret
	sum := checksum(key)
	key += string(sum[:])
	hash := sha256.Sum256([]byte(key))
	return key, directory.Key{ID: id, Hash: hex.EncodeToString(hash[:])}
}

// checksum is s's CRC-32 in hex. crc32.ChecksumIEEE wants a slice, and puts it on
// the heap.
func checksum(s string) (text [keyChecksum]byte) {
	sum := ^uint32(0)
	for i := range len(s) {
		sum = crc32.IEEETable[byte(sum)^s[i]] ^ sum>>8
	}
	sum = ^sum
	for i := range text {
		text[i] = "0123456789abcdef"[sum>>(28-4*i)&15]
	}
	return text
}

// IsAPIKey reports whether s means to be an API key; nothing is checked.
func IsAPIKey(s string) bool { return strings.HasPrefix(s, keyPrefix) }

// APIKeyID is the id in a key of the right form and checksum; whether it is valid
// only a Ring knows. It allocates nothing.
func APIKeyID(s string) (id string, ok bool) {
	if len(s) != keyLen || !IsAPIKey(s) || s[len(keyPrefix)+keyID] != '_' {
		return "", false
	}
	if checksum(s[:keyLen-keyChecksum]) != [keyChecksum]byte([]byte(s[keyLen-keyChecksum:])) {
		return "", false
	}
	return s[len(keyPrefix) : len(keyPrefix)+keyID], true
}

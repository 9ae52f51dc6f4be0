package h1

import "bytes"

// What a byte may be part of.
const (
	isToken  = 1 << iota // method, field name, list element
	isValue              // field value
	isTarget             // request target
	isName               // host name without its port
	isHex
	isDigit
)

var class = func() (t [256]uint8) {
	mark := func(what uint8, chars string) {
		for _, c := range []byte(chars) {
			t[c] |= what
		}
	}
	const digits = "0123456789"
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	mark(isToken, digits+letters+"!#$%&'*+-.^_`|~")
	mark(isName, digits+letters+"-._")
	mark(isHex, digits+"abcdefABCDEF")
	mark(isDigit, digits)
	for c := 0x21; c < 0x7f; c++ {
		t[c] |= isTarget
	}
	t['#'] &^= isTarget // a fragment is no part of a request
	for c := 0x20; c < 0x100; c++ {
		t[c] |= isValue
	}
	t['\t'] |= isValue
	t[0x7f] &^= isValue
	return t
}()

// fold maps letters to lower case and "_" to "-": names that fold to the same
// are taken for the same by some servers.
var fold = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c + 'a' - 'A')
	}
	t['_'] = '-'
	return t
}()

// all reports whether every byte of b is of class what, and there is one.
func all[T string | []byte](b T, what uint8) bool {
	ok := what
	for i := range len(b) {
		ok &= class[b[i]]
	}
	return ok != 0 && len(b) > 0
}

// folds reports whether b folds to want, which is folded already.
func folds[T string | []byte](b T, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i := range len(b) {
		if fold[b[i]] != want[i] {
			return false
		}
	}
	return true
}

// is reports whether b is want but for case; want is in lower case.
func is[T string | []byte](b T, want string) bool {
	if !folds(b, want) {
		return false
	}
	for i := range len(b) {
		if b[i] == '_' && want[i] == '-' {
			return false
		}
	}
	return true
}

// sameFold reports whether a and b are equal but for the case of letters.
func sameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if fold[a[i]] != fold[b[i]] || (a[i] == '_') != (b[i] == '_') {
			return false
		}
	}
	return true
}

// trim is b[from:to] without white space at its ends.
func trim(b []byte, from, to int) span {
	for from < to && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	for to > from && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	return span{uint32(from), uint32(to)} //nolint:gosec // heads are far below 4 GB
}

// element cuts the first element off the comma-separated list that buf holds at
// list.
func element(buf []byte, list span) (first, rest span, more bool) {
	end := int(list.to)
	if i := bytes.IndexByte(list.in(buf), ','); i >= 0 {
		end = int(list.from) + i
		rest, more = span{uint32(end) + 1, list.to}, true //nolint:gosec // heads are far below 4 GB
	}
	return trim(buf, int(list.from), end), rest, more
}

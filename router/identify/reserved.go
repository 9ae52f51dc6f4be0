package identify

import (
	"strings"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// Names of ours that came from outside are refused wherever a name can stand: as a
// header, as a declared trailer, in a Connection or TE list. They are refused and
// not stripped, so that probes are seen.

// checkName refuses reserved names, and spellings of Header that only some
// servers take for it.
func checkName(name string) error {
	if Reserved(name) || (SameName(name, Header) && !strings.EqualFold(name, Header)) {
		return problem.New(problem.ReservedHeader, "header %q may not come from outside", name)
	}
	return nil
}

// checkListed refuses a name in a list: there Header too, or it could be made
// to vanish on the way, or to come after the body.
func checkListed(name string) error {
	if Reserved(name) || SameName(name, Header) {
		return problem.New(problem.ReservedHeader, "header %q may not be listed", name)
	}
	return nil
}

// Reserved reports whether a header name is one of ours in any spelling: after
// folding case, and "_" to "-", it starts with token.ReservedPrefix.
func Reserved(name string) bool {
	const prefix = token.ReservedPrefix
	return len(name) >= len(prefix) && SameName(name[:len(prefix)], prefix)
}

// SameName reports whether two header names fold to the same. It allocates
// nothing: it runs for every header of every request.
func SameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

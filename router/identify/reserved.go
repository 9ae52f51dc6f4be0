package identify

import (
	"net/http"
	"strings"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// checkRequest refuses names of ours that came from outside, wherever a name can
// stand: as a header, as a declared trailer, in a Connection or TE list. It
// refuses and does not strip, so that probes are seen.
func checkRequest(r *http.Request) error {
	for name := range r.Header {
		if err := checkName(name); err != nil {
			return err
		}
	}
	for name := range r.Trailer {
		if err := checkListed(name); err != nil {
			return err
		}
	}
	for _, list := range []string{"Connection", "Trailer", "Te", "Keep-Alive", "Proxy-Connection"} {
		for _, line := range r.Header[list] {
			for name := range strings.SplitSeq(line, ",") {
				name, _, _ = strings.Cut(name, ";")
				if err := checkListed(strings.Trim(name, " \t")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkName refuses reserved names, and spellings of Header that only some
// servers take for it.
func checkName(name string) error {
	if Reserved(name) || (name != Header && SameName(name, Header)) {
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

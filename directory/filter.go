package directory

import (
	"strings"
	"unicode"
)

// A TenantFilter says which tenants a list has; the zero one is all.
type TenantFilter struct {
	Cell CellID // that owns them
	// Name is words, each of which begins a word of the tenant's slug or name. Small
	// letters and capitals are alike, where the record's database knows them.
	Name string
}

// longestSearch is of a filter's name, in bytes.
const longestSearch = 200

// Words are the words of a text that tenants are found by.
func Words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.N) })
}

// Validate reports a filter that says nothing: it must not be taken for all.
func (f TenantFilter) Validate() error {
	var bad fieldErrors
	bad.check(f.Name == "" || len(f.Name) <= longestSearch && len(Words(f.Name)) > 0, "query/name", "must be at most 200 bytes, with a letter or a digit")
	return bad.err("filter")
}

package keep

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cellway/cellway/directory"
)

// Classes of keys, by their second segment, that are no cache.
const (
	classKeep = "keep"
	classRate = "rate"
	classMove = "move"
)

// Reserved reports whether segment, the second of a key, is the class of something
// else than a cache. No module has such a name.
func Reserved(segment string) bool {
	return slices.Contains([]string{classKeep, classRate, classMove}, segment)
}

func prefix(t directory.TenantID) string { return fmt.Sprintf("{t:%d}:", t) }

// kept begins each durable key of the tenant.
func kept(t directory.TenantID) string { return prefix(t) + classKeep + ":" }

// limits are the tenant's limits; a move brings the state of each.
var limits = []string{"default"}

// Rate names the state of the tenant's limit on requests.
func Rate(t directory.TenantID) string { return rate(t, limits[0]) }

func rate(t directory.TenantID, limit string) string { return prefix(t) + classRate + ":" + limit }

func rates(t directory.TenantID) []string {
	out := make([]string, len(limits))
	for i, l := range limits {
		out[i] = rate(t, l)
	}
	return out
}

// moves reports whether name is a key of the tenant that a move may bring.
func moves(t directory.TenantID, name string) bool {
	return strings.HasPrefix(name, kept(t)) || slices.Contains(rates(t), name)
}

// names are this package's own keys of one tenant.
type names struct {
	fence    string // the greatest epoch that was ever seen here; a write below it is refused
	index    string // every durable key, by the version of its last change; also some that are gone
	version  string // counts changes
	noting   string // the move that is told of changes; while it is there, no deletion is forgotten
	received string // as a target: the move that may write, and the version of the source that is here
}

func namesOf(t directory.TenantID) names {
	p := prefix(t) + classMove + ":"
	return names{p + "fence", p + "index", p + "version", p + "noting", p + "received"}
}

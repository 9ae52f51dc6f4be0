package resource

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cellway/cellway/infra/problem"
)

// ETag is the strong entity tag of a version.
func ETag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

var etagForm = regexp.MustCompile(`^(W/)?"[!#-~]*"$`)

// CheckMatch holds an If-Match header against the stored version: PreconditionFailed
// where it names others only. A header that is not there (nil) allows every version, as
// "*" does. Weak tags never match. The row is locked by then.
func CheckMatch(header *string, version int64) error {
	if header == nil || *header == "*" {
		return nil
	}
	tags := strings.Split(*header, ",")
	for i, t := range tags {
		tags[i] = strings.TrimSpace(t)
		if !etagForm.MatchString(tags[i]) {
			err := problem.New(problem.Invalid, "If-Match must be * or entity tags in double quotes")
			err.Fields = []problem.Field{{Pointer: "header/If-Match", Detail: "is not an entity tag"}}
			return err
		}
	}
	if slices.Contains(tags, ETag(version)) {
		return nil
	}
	return problem.New(problem.PreconditionFailed, "it has changed meanwhile").With("etag", ETag(version))
}

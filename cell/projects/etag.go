package projects

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cellway/cellway/infra/problem"
)

// etag is the strong entity tag of a version.
func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

var etagForm = regexp.MustCompile(`^(W/)?"[!#-~]*"$`)

// checkMatch holds an If-Match header against the stored version. A header that is
// not there (nil) allows every version, as "*" does. Weak tags never match.
func checkMatch(header *string, version int64) error {
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
	if slices.Contains(tags, etag(version)) {
		return nil
	}
	return problem.New(problem.PreconditionFailed, "it has changed meanwhile").With("etag", etag(version))
}

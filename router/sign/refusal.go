package sign

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// Refused is what a cell's 421 to a request by method means: Stale, with what the cell knows,
// where its own document says so: then nothing was done. Unavailable where it does not take the
// assertion: that is no client's fault, for clocks or keys differ, or the address is another
// cell's. What else says 421 promises nothing: BadGateway. To HEAD there is no document but
// the header in its place; a cell that does not know of it lets no HEAD come to its fence.
func Refused(resp *http.Response, method string) error {
	said := problem.Read(resp)
	if method == http.MethodHead && resp.Header.Get("Content-Type") == problem.ContentType {
		kind := cmp.Or(problem.Kind(resp.Header.Get(token.RefusalHeader)), problem.AssertionRefused)
		said = problem.New(kind, "the owning cell refuses the request")
	}
	switch {
	case errors.Is(said, problem.Stale):
		return said
	case errors.Is(said, problem.AssertionRefused):
		return problem.Wrap(problem.Unavailable, said, "the owning cell does not take this router's word now").After(time.Second)
	}
	return problem.Wrap(problem.BadGateway, said, "the owning cell sends the request away, and does not say that nothing was done")
}

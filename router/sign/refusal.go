package sign

import (
	"errors"
	"net/http"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// Refused is what a cell's 421 means: Stale, with what the cell knows, or Unavailable
// where it does not take the assertion. That is no client's fault: clocks or keys
// differ, or the address is another cell's.
func Refused(resp *http.Response) error {
	said := problem.Read(resp)
	if !errors.Is(said, problem.AssertionRefused) {
		return errors.Join(problem.Stale, said)
	}
	e := problem.Wrap(problem.Unavailable, said, "the owning cell does not take this router's word now")
	e.RetryAfter = time.Second
	return e
}

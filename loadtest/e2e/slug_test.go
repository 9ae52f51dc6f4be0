package e2e

import (
	"net/http"
	"testing"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// TestTwoCreatesOfOneSlug: of any number of sign-ups for one slug at once, in
// whichever cell they would land, exactly one succeeds and the others say why not.
func TestTwoCreatesOfOneSlug(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	ctx := within(t, patience)
	for range 5 {
		name, takers := slug("contested"), 6
		answers := make(chan loadtest.Answer, takers)
		for i := range takers {
			go func() {
				// Each other one through the public endpoint, the rest as an operator.
				r := loadtest.Request{Path: "/v1/tenants", Body: map[string]any{"slug": name, "cell": w.cell(i%2 + 1)}, Token: w.State().OperatorToken}
				ep := loadtest.NewEndpoint(w.State().Directory.URL)
				defer ep.Close()
				if i == 0 {
					r, ep = loadtest.Request{Path: "/signup", Body: map[string]string{"slug": name, "name": "x"}}, w.ep
				}
				a, err := ep.Do(ctx, r)
				if err != nil {
					t.Error(err)
				}
				answers <- a
			}()
		}
		created := 0
		for range takers {
			if a := <-answers; a.Status == http.StatusCreated {
				created++
			} else {
				wantProblem(t, a, problem.Conflict)
			}
		}
		if created != 1 {
			t.Errorf("%s was created %d times", name, created)
		}
	}
}

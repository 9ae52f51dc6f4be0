package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// TestAProxysPageSaysNothingOfAFence: what the cell does not say is not so. A mover takes a conflict for the end of the
// move, or for nothing being left to purge, and a step without an error for done.
func TestAProxysPageSaysNothingOfAFence(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(answer http.HandlerFunc) (step, question error) {
		t.Helper()
		server := httptest.NewServer(answer)
		defer server.Close()
		c := client.New(client.Mover{ID: "mover-1", Keys: keys}, "a", server.URL, server.Client())
		m := transfer.Move{ID: "mv_1", Tenant: 7, Base: 1, Source: "a", Target: "b"}
		step = c.Release(t.Context(), m)
		_, question = c.Purge(t.Context(), m)
		return step, question
	}
	for _, status := range []int{http.StatusOK, http.StatusNotFound, http.StatusConflict, http.StatusGone} {
		step, question := ask(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>default backend</html>", status) })
		if !errors.Is(step, problem.Unavailable) || !errors.Is(question, problem.Unavailable) {
			t.Errorf("%d: got %v and %v, want unavailable", status, step, question)
		}
	}
	step, question := ask(func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.New(problem.Conflict, "the fence does not await this move"), problem.Where{Source: "cell"})
	})
	if !errors.Is(step, problem.Conflict) || !errors.Is(question, problem.Conflict) {
		t.Errorf("the cell's own word: got %v and %v, want a conflict", step, question)
	}
}

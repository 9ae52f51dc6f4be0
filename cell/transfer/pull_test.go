package transfer_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// TestOfTwoPullsAtOnceOneIsAskedAgain: the round of a mover that is gone goes on while
// the next mover asks for the same one. Who comes second is told to ask again, and
// the move goes on.
func TestOfTwoPullsAtOnceOneIsAskedAgain(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	source, err := url.Parse(a.url)
	must(t, err)
	var second sync.Once // waits for the fence, having read the same as the first
	relay := httputil.NewSingleHostReverseProxy(source)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/rows") {
			second.Do(func() {
				const waits = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%enter_move%'`
				for n := 0; n == 0 && ctx.Err() == nil; {
					if err := b.owner.QueryRow(ctx, waits).Scan(&n); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		relay.ServeHTTP(w, r)
	}))
	defer slow.Close()

	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := b.Pull(ctx, there, slow.URL, false)
			ended <- err
		}()
	}
	one, other := <-ended, <-ended
	if one != nil {
		one, other = other, one
	}
	if one != nil || !errors.Is(other, problem.Unavailable) {
		t.Errorf("got %v and %v, want one round and one unavailable", one, other)
	}
	must(t, a.Client.Freeze(ctx, there, wait))
	got, err := b.Pull(ctx, there, a.url, true)
	if err != nil || !got.Final || got.Round != 1 {
		t.Errorf("the last round: got %+v, %v", got, err)
	}
	var have transfer.Received
	if have, err = b.Pull(ctx, there, a.url, false); err != nil || !have.Final {
		t.Errorf("a pull after it: got %+v, %v", have, err)
	}
}

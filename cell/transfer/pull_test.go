package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory/token"
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

// TestTheLastRoundIsAskedForBeforeTheFreeze: it holds what is written meanwhile, and
// the target has done what it can by then. Who gives up leaves nothing.
func TestTheLastRoundIsAskedForBeforeTheFreeze(t *testing.T) {
	t.Parallel()
	const one = oneTable + `k integer NOT NULL, PRIMARY KEY (tenant_id, k));`
	a, b := keyedPairOf(t, one, "app.one")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	_, err := b.Pull(ctx, there, a.url, false)
	must(t, err)
	last := func(ctx context.Context) chan error {
		ended := make(chan error, 1)
		go func() {
			got, err := b.Pull(ctx, there, a.url, true)
			if err == nil && !got.Final {
				err = errors.New("it is not final")
			}
			ended <- err
		}()
		const ready = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND xact_start IS NOT NULL`
		for n := 0; n == 0 && ctx.Err() == nil; {
			must(t, b.owner.QueryRow(ctx, ready).Scan(&n))
		}
		return ended
	}
	tried, giveUp := context.WithCancel(ctx)
	ended := last(tried)
	giveUp()
	if err := <-ended; err == nil {
		t.Error("a tenant that is not frozen has a last round")
	}

	ended = last(ctx)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k) VALUES (7, 42)`))
	must(t, a.keep.Set(ctx, durable(1, "late"), []byte("42"), 0))
	must(t, a.Client.Freeze(ctx, there, wait))
	must(t, <-ended)
	same(t, "target", contents(t, b.cell, mover), contents(t, a.cell, mover))
	must(t, b.Client.Activate(ctx, there))
	b.want(t, 2, "late", "42")
	if b.lost(t) != "1 0" {
		t.Errorf("lost: %s", b.lost(t))
	}
}

// TestAProxysPageIsNoWordOfTheSource: a move goes on behind it, which a conflict would end.
func TestAProxysPageIsNoWordOfTheSource(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	for _, status := range []int{http.StatusNotFound, http.StatusConflict} {
		page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>default backend</html>", status) }))
		defer page.Close()
		if got, err := b.Pull(ctx, there, page.URL, false); !errors.Is(err, problem.Unavailable) {
			t.Errorf("%d: got %+v, %v, want unavailable", status, got, err)
		}
	}
	_, err := b.Pull(ctx, there, a.url, false)
	must(t, err)
}

// TestACellOfBeforeRefusesToBeAskedEarly: it would take for the last round what comes
// before the freeze. That a member it does not know is refused, cells have always done.
func TestACellOfBeforeRefusesToBeAskedEarly(t *testing.T) {
	t.Parallel()
	before := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct { // what a cell of before knows of it
			transfer.Move
			Unmeasured bool   `json:"unmeasured"`
			SourceURL  string `json:"source_url"`
			Final      bool   `json:"final"`
		}
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&asked); err != nil {
			problem.Write(w, problem.Wrap(problem.Invalid, err, "not a request"), problem.Where{Source: "cell"})
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer before.Close()
	a, _ := keyedPair(t)
	c := client.New(client.Mover{ID: "mover-1", Keys: a.keys}, "a", before.URL, before.Client())
	if _, err := c.Preflight(t.Context(), there, true); !errors.Is(err, problem.Invalid) {
		t.Errorf("preflight: got %v, want invalid", err)
	}
	if _, err := c.Pull(t.Context(), there, "", true); !errors.Is(err, problem.Invalid) {
		t.Errorf("a last round: got %v, want invalid", err)
	}
	if _, err := c.Pull(t.Context(), there, "", false); err != nil {
		t.Errorf("another round: got %v, want an answer", err)
	}

	body := `{"move":"mv_1","tenant":7,"base_epoch":1,"source":"a","target":"b","of_a_later_release":true}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+transfer.Prefix+"preflight", strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+a.bearer(t, token.Claims{Kind: token.Mover, Cell: "a"}))
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if err := problem.Read(resp); !errors.Is(err, problem.Invalid) {
		t.Errorf("a member of a later release: got %v, want invalid", err)
	}
}

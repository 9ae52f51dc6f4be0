package transfer_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/transfer"
)

// TestALastRoundThatIsAskedForAgainBringsTheKeys: whoever asked for it is gone when its rows are
// here and its keys are not. The next mover asks again, and the keys come.
func TestALastRoundThatIsAskedForAgainBringsTheKeys(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	source, err := url.Parse(a.url)
	must(t, err)
	relay := httputil.NewSingleHostReverseProxy(source)
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the peer leaves
			<-r.Context().Done()
			return
		}
		relay.ServeHTTP(w, r)
	}))
	defer silent.Close()
	toFrozen(t, a, b, there)
	must(t, a.keep.Set(ctx, durable(1, "late"), []byte("1"), time.Hour)) // let in before the freeze

	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ended := make(chan error, 1)
	go func() {
		_, err := b.Pull(asking, there, silent.URL, true)
		ended <- err
	}()
	for final := false; !final; {
		got, err := b.Received(ctx, there)
		must(t, err)
		final = got.Final
	}
	giveUp()
	<-ended
	_, err = b.Pull(ctx, there, a.url, true)
	must(t, err)
	must(t, b.Client.Activate(ctx, there))
	b.want(t, 2, "late", "1")

	// Now the tenant is served here: to ask once more sets nothing back.
	limit := func(c *keyed, state string) { must(t, c.raw.Set(ctx, keep.Rate(mover), state, time.Hour).Err()) }
	limit(a, "1")
	limit(b, "2")
	_, err = b.Pull(ctx, there, a.url, true)
	must(t, err)
	if got := b.raw.Get(ctx, keep.Rate(mover)).Val(); got != "2" {
		t.Errorf("the limit at the target is %q, want 2", got)
	}
}

// TestWhoCannotLookDoesNotSayThatTheKeysCame: the rows of a last round are here, the keys are not, and the cell cannot tell
// whether the tenant is served already. That is an error, so that the mover asks again.
func TestWhoCannotLookDoesNotSayThatTheKeysCame(t *testing.T) {
	t.Parallel()
	a, b := keyedPair(t)
	ctx := t.Context()
	toFrozen(t, a, b, there)
	must(t, a.keep.Set(ctx, durable(1, "late"), []byte("1"), time.Hour)) // let in before the freeze
	gone, err := pgxpool.NewWithConfig(ctx, b.mover.Config())
	must(t, err)
	gone.Close()
	final := func(pool *pgxpool.Pool, side *transfer.Keys) (transfer.Received, error) {
		server := httptest.NewServer((&transfer.Server{
			Steps: b.Steps, Source: b.source, Target: b.target, Purger: b.purger, Redis: side, Pool: pool,
			Keys: b.keys.Public(), Client: &http.Client{}, Log: slog.New(slog.DiscardHandler),
		}).Handler())
		defer server.Close()
		return client.New(client.Mover{ID: "mover-1", Keys: b.keys}, "b", server.URL, server.Client()).Pull(ctx, there, a.url, true)
	}
	got, err := final(b.mover, nil) // ended between the rows and the keys
	must(t, err)
	if !got.Final {
		t.Fatal("the last round is not final")
	}
	if got, err := final(gone, b.side); err == nil {
		t.Errorf("got %+v and no error, as if the keys were here", got)
	}
	_, err = final(b.mover, b.side)
	must(t, err)
	must(t, b.Client.Activate(ctx, there))
	b.want(t, 2, "late", "1")
}

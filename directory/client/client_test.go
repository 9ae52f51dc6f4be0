package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/infra/problem"
)

// serve answers with h and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := client.New(client.Options{URL: srv.URL + "/", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unavailable is an answer that is worth another attempt.
func unavailable(w http.ResponseWriter) {
	problem.Write(w, problem.New(problem.Unavailable, "not now"), problem.Where{})
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "127.0.0.1:7000", "ftp://h", "http://", "http://h\x00"} {
		if _, err := client.New(client.Options{URL: url}); !errors.Is(err, problem.Invalid) {
			t.Errorf("%q: got %v, want invalid", url, err)
		}
	}
}

func TestCallsAreRepeatedOnlyWithoutHarm(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		call func(context.Context, *client.Client) error
		want int32
	}{
		"list cells": {func(ctx context.Context, c *client.Client) error { _, err := c.ListCells(ctx); return err }, 3},
		"heartbeat":  {func(ctx context.Context, c *client.Client) error { return c.Heartbeat(ctx, "c1", "i1") }, 3},
		"take claim": {func(ctx context.Context, c *client.Client) error {
			return c.TakeClaim(ctx, directory.Claim{Kind: "login", Name: "ann", Tenant: 1})
		}, 3},
		"delete tenant": {func(ctx context.Context, c *client.Client) error { return c.DeleteTenant(ctx, 1) }, 3},
		"list deletions": {func(ctx context.Context, c *client.Client) error {
			_, err := c.ListDeletions(ctx, "c1", 0, 10)
			return err
		}, 3},
		"tell deletion":  {func(ctx context.Context, c *client.Client) error { return c.TellDeletion(ctx, "c1", "i1", 1, 2, true) }, 3},
		"hurry deletion": {func(ctx context.Context, c *client.Client) error { return c.HurryDeletion(ctx, 1) }, 3},
		"create tenant": {func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateTenant(ctx, directory.NewTenant{Slug: "a"})
			return err
		}, 1},
		"place": {func(ctx context.Context, c *client.Client) error { return c.Place(ctx, directory.Placement{Tenant: 1}) }, 1},
		"release claim": {func(ctx context.Context, c *client.Client) error {
			return c.ReleaseClaim(ctx, directory.Claim{Kind: "login", Name: "ann", Tenant: 1})
		}, 1},
		"create move": {func(ctx context.Context, c *client.Client) error {
			_, err := c.CreateMove(ctx, directory.NewMove{Tenant: 1, Target: "c1"})
			return err
		}, 1},
		"ask move": {func(ctx context.Context, c *client.Client) error {
			_, err := c.AskMove(ctx, "mv_1", directory.Cancel)
			return err
		}, 3},
		"advance move": {func(ctx context.Context, c *client.Client) error {
			return c.Advance(ctx, directory.Move{ID: "mv_1", Phase: directory.Reserved}, directory.Planned)
		}, 3},
		"lease any move": {lease("", time.Second), 1},
		"lease in pause": {lease(directory.InPause, time.Second), 1},
		"lease move":     {lease("mv_1", time.Second), 3},
		"give move back": {lease("mv_1", 0), 1},
		"changes":        {func(ctx context.Context, c *client.Client) error { _, err := c.Changes(ctx, "", 0, 0); return err }, 1},
		"issue token": {func(ctx context.Context, c *client.Client) error {
			_, err := c.IssueToken(ctx, 1, "ann", time.Hour)
			return err
		}, 1},
		"sign up": {func(ctx context.Context, c *client.Client) error {
			_, err := c.Signup(ctx, directory.NewTenant{Slug: "a"})
			return err
		}, 1},
	} {
		var calls atomic.Int32
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			unavailable(w)
		})
		if err := tt.call(t.Context(), c); !errors.Is(err, problem.Unavailable) {
			t.Errorf("%s: got %v, want unavailable", what, err)
		}
		if got := calls.Load(); got != tt.want {
			t.Errorf("%s: got %d attempts, want %d", what, got, tt.want)
		}
	}
}

func lease(id directory.MoveID, ttl time.Duration) func(context.Context, *client.Client) error {
	return func(ctx context.Context, c *client.Client) error {
		_, err := c.LeaseMove(ctx, id, "m1", ttl)
		return err
	}
}

func TestAShortLeaseIsNotNone(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["ttl_ms"] != 1.0 {
			t.Errorf("got %v, %v, want 1 ms", in, err)
		}
		fmt.Fprint(w, `{}`)
	})
	if err := lease("mv_1", time.Microsecond)(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestASecondAttemptMaySucceed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			unavailable(w)
			return
		}
		fmt.Fprint(w, `{"items":[{"id":"c1"}]}`)
	})
	cells, err := c.ListCells(t.Context())
	if err != nil || len(cells) != 1 || cells[0].ID != "c1" {
		t.Errorf("got %v, %v, want c1", cells, err)
	}
}

func TestWhatTheDirectoryRefusesIsNotRepeated(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		problem.Write(w, problem.New(problem.Conflict, "it is taken"), problem.Where{})
	})
	_, err := c.SetCellState(t.Context(), "c1", directory.Ready)
	if !errors.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "it is taken") || calls.Load() != 1 {
		t.Errorf("got %v after %d attempts, want the conflict after 1", err, calls.Load())
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // the port is nobody's now
	c, err := client.New(client.Options{URL: "http://" + ln.Addr().String(), Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watermark(t.Context()); !errors.Is(err, problem.Unavailable) || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got %v, want unavailable without internals", err)
	}
}

func TestADirectoryThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-ended }))
	defer srv.Close()
	defer close(ended)
	c, err := client.New(client.Options{URL: srv.URL, Timeout: 20 * time.Millisecond, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListCells(t.Context()); !errors.Is(err, problem.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.ListCells(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, want canceled", err)
	}
}

func TestATokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("authorization: got %q", got)
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if _, err := c.ListCells(t.Context()); err == nil || elsewhere.Load() != 0 {
		t.Errorf("redirected: got %v and %d calls elsewhere, want an error and none", err, elsewhere.Load())
	}
}

func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.URL.EscapedPath(), "/v1/claims/login/a%2Fb%3Fc%20..%2F"; got != want {
			t.Errorf("path: got %s, want %s", got, want)
		}
		fmt.Fprint(w, `{}`)
	})
	if _, err := c.FindClaim(t.Context(), "login", "a/b?c ../"); err != nil {
		t.Error(err)
	}
}

// TestAProxysPageSaysNothingOfTheRecord: what the directory does not say is not so. A cell takes
// a tenant that is not found for forgotten, and serves it no more.
func TestAProxysPageSaysNothingOfTheRecord(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusConflict, http.StatusGone} {
		var calls atomic.Int32
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				http.Error(w, "<html>default backend</html>", status)
				return
			}
			fmt.Fprint(w, `{"id":7}`)
		})
		if got, err := c.Tenant(t.Context(), "7"); err != nil || got.ID != 7 {
			t.Errorf("%d, then an answer: got %v, %v, want the answer", status, got, err)
		}
		c = serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>default backend</html>", status) })
		if err := c.Place(t.Context(), directory.Placement{Tenant: 7}); !errors.Is(err, problem.BadGateway) {
			t.Errorf("%d: got %v, want bad gateway", status, err)
		}
	}
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.New(problem.NotFound, "no tenant 7"), problem.Where{})
	})
	if _, err := c.Tenant(t.Context(), "7"); !errors.Is(err, problem.NotFound) {
		t.Errorf("the directory's own word: got %v, want not found", err)
	}
}

func TestGarbageIsUnavailable(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"version":`) })
	if _, err := c.Snapshot(t.Context()); !errors.Is(err, problem.Unavailable) {
		t.Errorf("half an answer: got %v, want unavailable", err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) })
	if _, err := c.Snapshot(t.Context()); !errors.Is(err, problem.Unavailable) {
		t.Errorf("a proxy's page: got %v, want unavailable", err)
	}
}

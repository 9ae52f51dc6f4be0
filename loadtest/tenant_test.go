package loadtest

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestSignUpWaitsWhereThereWereTooMany: and gives up on any other refusal.
func TestSignUpWaitsWhereThereWereTooMany(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/signup":
			_, _ = w.Write([]byte(`{"items":[]}`))
		case calls.Add(1) == 1:
			problem.Write(w, &problem.Error{Kind: problem.RateLimited, RetryAfter: time.Second}, problem.Where{})
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"tenant":{"id":7,"slug":"acme","placement":{"tenant":7,"cell":"c2","epoch":1,"state":"active"}},"token":"x"}`))
		}
	}))
	defer srv.Close()
	ctx, cancel := timeout(t, 30*time.Second)
	defer cancel()
	got, err := SignUp(ctx, NewEndpoint(srv.URL), &Recorder{}, "acme", Plan{})
	if err != nil || got.ID != 7 || got.Cell() != "c2" || calls.Load() != 2 {
		t.Errorf("got %+v, %v after %d calls", got, err, calls.Load())
	}
	taken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, problem.New(problem.Conflict, "taken"), problem.Where{})
	}))
	defer taken.Close()
	if _, err := SignUp(ctx, NewEndpoint(taken.URL), &Recorder{}, "acme", Plan{}); problem.KindOf(err) != problem.Conflict {
		t.Errorf("got %v, want a conflict", err)
	}
}

// TestATenantWaitsForItsLimit where its plan knows of one; any other hears of it.
func TestATenantWaitsForItsLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{60: http.StatusOK, 0: http.StatusTooManyRequests} {
		var calls atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				problem.Write(w, &problem.Error{Kind: problem.RateLimited, RetryAfter: time.Second}, problem.Where{})
			}
		}))
		defer srv.Close()
		ctx, cancel := timeout(t, 30*time.Second)
		defer cancel()
		tenant := Adopt(NewEndpoint(srv.URL), &Recorder{}, directory.Tenant{}, "x", Plan{Limit: limit})
		if a, err := tenant.Do(ctx, Request{Path: "/v1/projects"}); err != nil || a.Status != want {
			t.Errorf("limit %d: got %d, %v, want %d", limit, a.Status, err, want)
		}
	}
}

package consul

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

// dead is an agent that is not there: every connection is refused at once.
type dead struct{}

func (dead) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// TestALeaseEndsBeforeItsSession where the agent dies: another holder may begin then.
func TestALeaseEndsBeforeItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := api.NewClient(&api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: dead{}}})
		if err != nil {
			t.Fatal(err)
		}
		l := &lease{api: client, session: "s"}
		l.ctx, l.end = context.WithCancelCause(t.Context())
		begin := time.Now()
		l.work.Go(func() { l.renew(begin) })
		<-l.ctx.Done()
		if held := time.Since(begin); held > sessionTTL {
			t.Errorf("held for %v, want at most %v", held, sessionTTL)
		}
		l.work.Wait()
	})
}

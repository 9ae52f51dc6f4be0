package run

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// serving runs Serve with a handler that reports that a request is inside and
// answers when it is told to.
func serving(t *testing.T, grace time.Duration) (url string, inside, answer chan struct{}, stop func(), ended chan error) {
	t.Helper()
	ln := listen(t)
	inside, answer, ended = make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		ended <- Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inside <- struct{}{}
			select {
			case <-answer:
				_, _ = io.WriteString(w, "done")
			case <-r.Context().Done():
			}
		}), grace)
	}()
	return "http://" + ln.Addr().String(), inside, answer, cancel, ended
}

func TestServeLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	url, inside, answer, stop, ended := serving(t, time.Minute)
	body := make(chan string, 1)
	go func() { body <- get(url) }()
	<-inside
	stop()
	awaitRefusal(t, url)
	select {
	case err := <-ended:
		t.Fatalf("it ended (%v) with a request under way", err)
	default:
	}
	close(answer)
	if got := <-body; got != "done" {
		t.Errorf("got %q, want the whole answer", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("got %v, want an orderly stop", err)
	}
}

func TestServeCutsRequestsAfterTheGrace(t *testing.T) {
	t.Parallel()
	url, inside, _, stop, ended := serving(t, time.Millisecond)
	body := make(chan string, 1)
	go func() { body <- get(url) }()
	<-inside
	stop()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if got := <-body; got == "done" {
		t.Error("the request was answered, want it cut")
	}
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	ln.Close()
	if err := Serve(t.Context(), ln, http.NotFoundHandler(), time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want the listener's error", err)
	}
}

func TestGroupEndsWithItsFirstFailure(t *testing.T) {
	t.Parallel()
	g := NewGroup(t.Context())
	broken := errors.New("broken")
	g.Go("relay", func(context.Context) error { return broken })
	g.Go("consumer", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	err := g.Wait()
	if !errors.Is(err, broken) || err.Error() != "relay: broken" {
		t.Errorf("got %v, want relay: broken", err)
	}
	if !errors.Is(context.Cause(g.Context()), broken) {
		t.Errorf("cause: got %v, want %v", context.Cause(g.Context()), broken)
	}
}

func TestGroupThatIsStoppedHasNotFailed(t *testing.T) {
	t.Parallel()
	g := NewGroup(t.Context())
	g.Go("loop", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("interrupted")
	})
	g.Stop()
	if err := g.Wait(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// get is the body, or "" where the answer did not come whole.
func get(url string) string {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(b)
}

// awaitRefusal waits until nobody listens at url any more.
func awaitRefusal(t *testing.T, url string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", url[len("http://"):])
		if err != nil {
			return
		}
		conn.Close()
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it still listens")
		}
	}
}

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestARouterStartsWhileTheOneBeforeDrains: told to stop, a router finishes a request
// that takes long; the next one serves meanwhile, at the same addresses.
func TestARouterStartsWhileTheOneBeforeDrains(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	cell := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			close(inside)
			<-leave
		}
	}))
	t.Cleanup(cell.Close)
	env, s := loaded(t, cell.URL, "ROUTER_HANDOVER_SOCKET="+filepath.Join(t.TempDir(), "s"))
	old := launch(t, env)
	old.awaitLog("router serves")
	slow := make(chan string, 1)
	url := "http://" + s.ListenAddr + "/t/acme/"
	go func() { slow <- ask(t, url+"slow") }()
	select {
	case <-inside:
	case got := <-slow:
		t.Fatalf("got %q before the cell was asked", got)
	}
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		nc, err := net.Dial("tcp", s.ListenAddr)
		if err == nil {
			_ = nc.Close()
		}
		return err != nil
	})
	launch(t, env).awaitLog("router serves")
	if got := ask(t, url+"x"); got != "200 " {
		t.Errorf("the new router: got %q", got)
	}
	close(leave)
	if got := <-slow; got != "200 " {
		t.Errorf("the old one's last request: got %q", got)
	}
	if err := old.exit(); err != nil {
		t.Errorf("told to stop: %v\n%s", err, old.logged())
	}
}

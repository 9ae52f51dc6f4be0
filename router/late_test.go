package router_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// TestWhatEndsDuringABodyEndsIt: a request is asked again who sends it once its body is
// there, which may be long after its head.
func TestWhatEndsDuringABodyEndsIt(t *testing.T) {
	t.Parallel()
	now := func(s directory.State) func(a *authWorld) {
		return func(a *authWorld) {
			a.apply(directory.Update{Since: 2, Version: 3, Routes: []directory.Route{{Placement: place(1, "c1", 1, s), Slug: "acme", Hosts: []string{"www.acme.com"}}}})
		}
	}
	for name, tt := range map[string]struct {
		key   bool // instead of the token
		spoil func(a *authWorld)
		want  string
	}{
		"nothing":          {spoil: func(*authWorld) {}, want: "503"}, // it gets to the cell, which closes
		"token revoked":    {spoil: (*authWorld).revokeToken, want: "401"},
		"token expired":    {spoil: func(a *authWorld) { a.later.Store(int64(2 * time.Hour)) }, want: "401"},
		"key revoked":      {key: true, spoil: (*authWorld).revokeKey, want: "401"},
		"tenant suspended": {spoil: now(directory.Suspended), want: "403"},
		"tenant deleted":   {spoil: now(directory.Deleted), want: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthWorld(t, nil)
			bearer := a.token
			if tt.key {
				bearer = a.key
			}
			c, err := net.Dial("tcp", a.addr) //nolint:noctx // a test's connection to its own machine
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			head := strings.Replace(as(bearer, "", "Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n"), "GET ", "POST ", 1)
			const wanted = "HTTP/1.1 100 Continue\r\n\r\n" // the router has decided
			if _, err := io.WriteString(c, head); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, len(wanted))); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "ab"); err != nil {
				t.Fatal(err)
			}
			tt.spoil(a)
			if _, err := io.WriteString(c, "c"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || len(got) < 20 || status(string(got)) != tt.want {
				t.Errorf("got %.300q, %v, want %s", got, err, tt.want)
			}
		})
	}
}

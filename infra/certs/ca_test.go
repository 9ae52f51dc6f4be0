package certs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeepRenews: within `cellway up` a certificate is renewed at half its life.
func TestKeepRenews(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := OpenCA(root)
		if err != nil {
			t.Fatal(err)
		}
		dir, r := filepath.Join(root, "c1"), Request{Role: RoleCell, ID: "c1"}
		if err := ca.Issue(dir, r); err != nil {
			t.Fatal(err)
		}
		expires := func() time.Time {
			p, err := loadPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return p.Leaf.NotAfter
		}
		first := expires()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ca.Keep(ctx, dir, r, func(err error) { t.Error(err) })
		}()
		time.Sleep(DevLife/2 + time.Second) // of the bubble's clock
		synctest.Wait()
		if got := expires().Sub(first); got < DevLife/2-time.Minute {
			t.Errorf("got %v more, want half a life", got)
		}
		cancel()
		<-ended
	})
}

func TestTheAuthorityStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, err := OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := OpenCA(dir)
	if err != nil || !bytes.Equal(one.Authority(), two.Authority()) {
		t.Errorf("the second start made another authority (%v)", err)
	}
	if err := os.WriteFile(filepath.Join(dir, caKeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err == nil {
		t.Error("an authority whose key is broken was taken, or made again")
	}
}

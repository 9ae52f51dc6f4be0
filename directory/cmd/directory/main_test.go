package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/consul"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// do runs a command that ends by itself.
func do(t *testing.T, environ []string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := command(t.Context(), args, environ, &out)
	return out.String(), err
}

func TestKeysAndTokens(t *testing.T) {
	t.Parallel()
	key, err := do(t, nil, "new-key", "--id", "k7")
	if err != nil || !strings.HasPrefix(key, "k7:") {
		t.Fatalf("new-key: got %q, %v", key, err)
	}
	keys, err := token.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"DIRECTORY_TOKEN_KEYS=" + strings.TrimSpace(key), "DIRECTORY_LISTEN_ADDR=x", "PATH=/bin"}
	for _, args := range []string{
		"--kind operator --subject ann --ttl 1h", "--kind router --subject router-1 --ttl 720h", "--kind cell --subject c1 --ttl 720h", "--kind mover --subject mover-1 --ttl 720h", "--kind tenant --subject ann --tenant 17 --ttl 1m",
	} {
		signed, err := do(t, environ, append([]string{"issue-token"}, strings.Fields(args)...)...)
		if err != nil {
			t.Errorf("issue-token %s: %v", args, err)
			continue
		}
		checks := keys.Public()
		if strings.Contains(args, "tenant") {
			checks = keys.For(token.Tenants)
		}
		c, err := checks.Verify(strings.TrimSpace(signed), time.Now())
		if err != nil || !strings.Contains(args, "--kind "+string(c.Kind)) || !strings.Contains(args, "--subject "+c.Subject) {
			t.Errorf("issue-token %s: got %+v, %v", args, c, err)
		}
	}
	for _, args := range []string{
		"--kind king --subject ann --ttl 1h", "--kind service --subject router-1 --ttl 1h", "--kind operator --ttl 1h", "--kind operator --subject ann", "--kind tenant --subject ann --ttl 1h",
		"--kind operator --subject ann --tenant 17 --ttl 1h", "--kind tenant --subject ann --tenant acme --ttl 1h", "--unknown",
	} {
		if signed, err := do(t, environ, append([]string{"issue-token"}, strings.Fields(args)...)...); err == nil {
			t.Errorf("issue-token %s: got %q, want an error", args, signed)
		}
	}
	if _, err := do(t, nil, "issue-token", "--kind", "operator", "--subject", "ann", "--ttl", "1h"); err == nil {
		t.Error("issue-token without keys: got nil, want an error")
	}
	if _, err := do(t, nil, "new-key", "--id", "K 7"); err == nil {
		t.Error("new-key with a bad id: got nil, want an error")
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	good := []string{"DIRECTORY_DATABASE_URL=postgres://u:secret@h/d", "DIRECTORY_TOKEN_KEYS=" + token.NewKey("k1")}
	out, err := do(t, good, "--print-config")
	if err != nil || strings.Contains(out, "secret@") || !strings.Contains(out, "DIRECTORY_LISTEN_ADDR=127.0.0.1:7000") {
		t.Errorf("print-config: got %s, %v", out, err)
	}
	if out, err := do(t, nil, "--version"); err != nil || out == "" {
		t.Errorf("version: got %q, %v", out, err)
	}
	for bad, want := range map[string]string{
		"DIRECTORY_LISTEN_ADR=x": "LISTEN_ADDR", "DIRECTORY_SIGNUP=ajar": "SIGNUP", "DIRECTORY_TOKEN_TTL=0s": "TOKEN_TTL",
		"DIRECTORY_DATABASE_POOL=1": "DATABASE_POOL", "DIRECTORY_AUDIT_KEEP=1h": "AUDIT_KEEP", "DIRECTORY_TOKEN_KEYS=short": "keys",
	} {
		if _, err := do(t, append(good, bad), "--print-config"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", bad, err, want)
		}
	}
	if _, err := do(t, nil, "--print-config"); err == nil {
		t.Error("nothing set: got nil, want an error")
	}
	if _, err := do(t, good, "sing"); err == nil {
		t.Error("unknown command: got nil, want an error")
	}
}

// A process is a directory that runs in this one.
type process struct {
	url, admin string
	stop       func() error
}

// start runs a directory until the test ends or stop is called.
func start(t *testing.T, instance, databaseURL, key string, extra ...string) process {
	t.Helper()
	var addr [2]string
	for i := range addr {
		port, err := local.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addr[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	environ := append([]string{
		"DIRECTORY_DATABASE_URL=" + databaseURL, "DIRECTORY_TOKEN_KEYS=" + key, "DIRECTORY_INSTANCE=" + instance,
		"DIRECTORY_LISTEN_ADDR=" + addr[0], "DIRECTORY_ADMIN_ADDR=" + addr[1],
	}, extra...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var failed error
	go func() {
		defer close(ended)
		failed = command(ctx, nil, environ, io.Discard)
	}()
	p := process{url: "http://" + addr[0], admin: "http://" + addr[1], stop: func() error {
		cancel()
		<-ended
		return failed
	}}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("%s: %v", instance, err)
		}
	})
	poll(t, "readiness of "+instance, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended: %v", instance, failed)
		default:
		}
		return status(p.admin+"/readyz") == http.StatusOK
	})
	return p
}

// status is 0 where nobody answers.
func status(url string) int {
	resp, err := http.Get(url) //nolint:noctx // a poll in a test
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (p process) client(t *testing.T, key string) *client.Client {
	t.Helper()
	keys, err := token.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := keys.Issue(token.Claims{Kind: token.Operator, Subject: "test"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{URL: p.url, Token: signed})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTwoSideBySide follows at one process what is changed at the other, and
// goes on at the second when the first has stopped.
func TestTwoSideBySide(t *testing.T) {
	t.Parallel()
	url, key := testkit.Postgres(t), token.NewKey("k1")
	one, two := start(t, "directory-1", url, key), start(t, "directory-2", url, key)
	a, b := one.client(t, key), two.client(t, key)
	if _, err := a.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 10, Incarnation: "db"}); err != nil {
		t.Fatalf("add cell: %v", err)
	}
	versions := make(chan directory.Version, 10)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- client.Watch(ctx, b, client.WatchOptions{Router: "r1", Apply: func(_ context.Context, u directory.Update) error {
			versions <- u.Version
			return nil
		}})
	}()
	if got := <-versions; got != 1 {
		t.Errorf("snapshot: got version %d, want 1", got)
	}
	if _, err := a.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme"}); err != nil {
		t.Fatalf("create tenant: %v", err)
	}
	if got := <-versions; got != 2 {
		t.Errorf("change made at the other process: got version %d, want 2", got)
	}
	if err := one.stop(); err != nil {
		t.Errorf("stop: got %v, want an orderly end", err)
	}
	if _, err := b.CreateTenant(t.Context(), directory.NewTenant{Slug: "globex"}); err != nil {
		t.Errorf("create at the second: %v", err)
	}
	if got := <-versions; got != 3 {
		t.Errorf("change after the stop: got version %d, want 3", got)
	}
	cancel()
	if err := <-watched; err != nil {
		t.Errorf("watch: %v", err)
	}
	if got := status(two.admin + "/metrics"); got != http.StatusOK {
		t.Errorf("metrics: got %d", got)
	}
}

// TestConsulKeepsCellsHealthy joins a cell in Consul that never sends a heartbeat
// to the directory, and expects the record to hear of it.
func TestConsulKeepsCellsHealthy(t *testing.T) {
	t.Parallel()
	addr := testkit.Consul(t)
	url, key := testkit.Postgres(t), token.NewKey("k1")
	d := start(t, "directory-1", url, key, "DIRECTORY_CONSUL_ADDR="+addr).client(t, key)
	c := directory.Cell{ID: "c1", Address: "http://c1.test", Capacity: 10, Incarnation: "i1"}
	added, err := d.AddCell(t.Context(), c)
	if err != nil {
		t.Fatalf("add cell: %v", err)
	}
	agent, err := consul.New(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Membership().Join(t.Context(), c); err != nil {
		t.Fatalf("join: %v", err)
	}
	poll(t, "a heartbeat from Consul", func() bool {
		got, err := d.Cell(t.Context(), "c1")
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("find cell: %v", err)
		}
		return got.SeenAt.After(added.SeenAt)
	})
}

// TestDeriveKeys: what a process gets, by name, of the keys on the standard input.
func TestDeriveKeys(t *testing.T) {
	t.Parallel()
	root := token.NewKey("k1")
	derive := func(in string, whom ...string) (string, error) {
		var out strings.Builder
		err := deriveKeys(append([]string{"--for"}, whom...), strings.NewReader(in), &out)
		return strings.TrimSpace(out.String()), err
	}
	seen := map[string]bool{root: true}
	for _, whom := range []string{"tenants", "movers", "cell/c1", "cell/c2", "public"} {
		got, err := derive(root+"\n", whom)
		if again, _ := derive(root, whom); err != nil || seen[got] || again != got {
			t.Errorf("%s: got %v, not its own or not the same again", whom, err)
		}
		seen[got] = true
	}
	for name, args := range map[string][2]string{"nobody": {root, ""}, "no cell": {root, "cell/"}, "no keys": {"x", "public"}} {
		if out, err := derive(args[0], args[1]); err == nil || out != "" {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
}

// TestABodyThatDoesNotArrive holds no connection for good, also where nobody wants it.
func TestABodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	d := start(t, "patient", testkit.Postgres(t), token.NewKey("k1"))
	for path, want := range map[string]int{"/signup": http.StatusGatewayTimeout, "/v1/tenants": http.StatusUnauthorized} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{", path)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("no answer: %v", err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("got %d, want %d", resp.StatusCode, want)
			}
		})
	}
}

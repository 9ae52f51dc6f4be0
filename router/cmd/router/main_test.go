package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/keyring"
	"github.com/cellway/cellway/router/table"
)

func environ(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{
		"ROUTER_LISTEN_ADDR=" + freeAddr(t), "ROUTER_ADMIN_ADDR=" + freeAddr(t), "ROUTER_DIRECTORY_URL=http://" + freeAddr(t),
		"ROUTER_ASSERTION_KEYS=" + token.NewKey("k1"), "ROUTER_TOKEN_KEYS=" + token.NewKey("k1"),
		"ROUTER_TABLE_FILE=" + filepath.Join(t.TempDir(), "table"),
	}, more...)
}

// freeAddr is an address at which nobody listens, and which the kernel gives to no
// client: a router that is started again needs it again.
func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ variable, want string }{
		"defaults":             {"ROUTER_ID=r", ""},
		"unknown":              {"ROUTER_HOLD_TIME=1s", "HOLD_TIMEOUT"},
		"odd ENGINE":           {"ROUTER_ENGINE=h2", "ENGINE"},
		"odd AUTH":             {"ROUTER_AUTH=maybe", "AUTH"},
		"AUTH without keys":    {"ROUTER_TOKEN_KEYS=", "TOKEN_KEYS"},
		"no places":            {"ROUTER_CELL_CONCURRENCY=0", "CELL_CONCURRENCY"},
		"hold over cell":       {"ROUTER_HOLD_TIMEOUT=31s", "HOLD_TIMEOUT"},
		"grace under hold":     {"ROUTER_STOP_GRACE=3s", "STOP_GRACE"},
		"upper case domain":    {"ROUTER_BASE_DOMAIN=Example.com", "BASE_DOMAIN"},
		"no directory":         {"ROUTER_DIRECTORY_URL=nowhere", "DIRECTORY_URL"},
		"a number that is not": {"ROUTER_MAX_BODY=much", "MaxBody"},
	} {
		var s settings
		err := config.Load(prefix, environ(t, tt.variable), &s)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error about %s", name, err, tt.want)
		}
	}
}

func TestOptionsRefuseBadKeys(t *testing.T) {
	t.Parallel()
	for _, s := range []settings{
		{AssertionKeys: "k1:x"},
		{AssertionKeys: config.Secret(token.NewKey("k1")), TokenKeys: "k1:x"},
	} {
		if _, err := s.options(); err == nil {
			t.Errorf("keys %q, %q were taken", string(s.AssertionKeys), string(s.TokenKeys))
		}
	}
}

// TestProcess: with the directory dead the process starts from its disk copy,
// serves, finishes what is under way when told to stop, and leaves nothing open.
func TestProcess(t *testing.T) {
	for _, engine := range []string{"std", "h1", "loop"} {
		t.Run(engine, func(t *testing.T) { testProcess(t, engine) })
	}
}

func testProcess(t *testing.T, engine string) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	cell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-finish
		_, _ = io.WriteString(w, "done")
	}))
	defer cell.Close()
	var s settings
	if err := config.Load(prefix, environ(t, "ROUTER_AUTH=optional", "ROUTER_ENGINE="+engine), &s); err != nil {
		t.Fatal(err)
	}
	saveTable(t, s.TableFile, cell.URL)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, s) }()
	eventually(t, func() bool { return status("http://"+s.AdminAddr+"/readyz") == 200 })
	answered := make(chan string, 1)
	go func() { answered <- ask(t, "http://"+s.ListenAddr+"/t/acme/x") }()
	<-arrived
	stop()
	eventually(t, func() bool { return status("http://"+s.AdminAddr+"/readyz") != 200 })
	close(finish)
	if got := <-answered; got != "200 done" {
		t.Errorf("the request under way: got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if status("http://"+s.AdminAddr+"/livez") != 0 {
		t.Error("the admin listener still answers")
	}
}

// TestReadyWhenTheIssuersHaveAnswered: an issuer that answers late is waited for, so that
// no token is 503 because a new router has taken over.
func TestReadyWhenTheIssuersHaveAnswered(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-answer:
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Use: "sig"}}})
		case <-r.Context().Done():
		}
	}))
	defer issuer.Close()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf("waf: {mode: off}\nissuers: [{issuer: %[1]q, jwks: %[1]q, audience: cellway, tenant: 1}]", issuer.URL)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var s settings
	if err := config.Load(prefix, environ(t, "ROUTER_POLICY_FILE="+policy), &s); err != nil {
		t.Fatal(err)
	}
	saveTable(t, s.TableFile, echo(t).URL)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, s) }()
	page := "http://" + s.AdminAddr + "/readyz"
	eventually(t, func() bool { return strings.Contains(ask(t, page), "[+] table ok") })
	if got := ask(t, page); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "[-] issuers: ") {
		t.Errorf("before the issuer has answered: got %s", got)
	}
	close(answer)
	eventually(t, func() bool { return status(page) == 200 })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// saveTable writes a table with acme on a cell at address.
func saveTable(t *testing.T, path, address string) { saveTenants(t, path, address, "acme") }

// saveTenants writes a table with a cell at address for each tenant, and that there
// are no keys.
func saveTenants(t *testing.T, path, address string, slugs ...string) {
	t.Helper()
	u := directory.Update{Version: 5}
	for i, slug := range slugs {
		cell := directory.CellID(fmt.Sprintf("c%d", i+1))
		u.Cells = append(u.Cells, directory.CellRoute{ID: cell, Address: address, State: directory.Ready})
		u.Routes = append(u.Routes, directory.Route{Slug: slug, Placement: directory.Placement{Tenant: directory.TenantID(i + 1), Cell: cell, Epoch: 1, State: directory.Active}})
	}
	tab := table.New()
	if err := tab.Apply(u); err != nil {
		t.Fatal(err)
	}
	tel, err := telemetry.Start(t.Context(), "test", "test", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // Run saves once more when it is told to stop
	var ring token.Ring
	if err := ring.Apply(directory.Credentials{Version: 1}); err != nil {
		t.Fatal(err)
	}
	for _, save := range []func(context.Context) error{table.NewDisk(path, "cellway.localhost", tab, tel.Log).Run, keyring.New(path+".keys", &ring, tel.Log).Run} {
		if err := save(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// status is the status at url, 0 where nobody answers.
func status(url string) int {
	resp, err := http.Get(url) //nolint:noctx // a test's poll
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func ask(t *testing.T, url string) string {
	t.Helper()
	return askBy(http.DefaultClient, url)
}

func askBy(c *http.Client, url string) string {
	resp, err := c.Get(url) //nolint:noctx // ends with the process that it asks
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		time.Sleep(5 * time.Millisecond) // the pause of a poll with a deadline
	}
}

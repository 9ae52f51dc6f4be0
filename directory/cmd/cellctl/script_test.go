package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/client"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/infra/testkit"
)

// TestMain is also cellctl itself, for the scripts that run it where nobody has built it.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "cellctl" {
		main()
	}
	testkit.Main(m)
}

// TestScripts runs testdata/script, cellctl's manual by example, each script
// against a directory of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("BIN_DIR") // the program itself, as make test has built it: some 500 commands start faster than with the race detector in them
	if bin == "" {
		bin = t.TempDir()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, filepath.Join(bin, "cellctl")); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup:              func(env *testscript.Env) error { return setup(env, bin) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"as": as, "exits": exits, "follows": follows, "mute": mute, "router": router, "asked": asked, "works": works, "rehearses": rehearses,
			"newest": newest, "until": until, "alive": alive, "lapses": lapses, "stages": stages, "agrees": agrees, "interrupted": interrupted,
		},
	})
}

// A script is what the commands below share of one script.
type script struct {
	tb    testing.TB
	keys  token.Keys
	asked chan url.Values // the first query that its router got
	db    string          // of its directory
	// failing is what its router's requests do, in percent; -1 while it has none.
	failing *atomic.Int64
}

type scriptKey struct{}

// setup gives a script a directory and an operator's token.
func setup(env *testscript.Env, bin string) error {
	tb := env.T().(testing.TB)
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		return err
	}
	addr, db := startDirectory(tb, keys)
	env.Values[scriptKey{}] = script{tb, keys, make(chan url.Values, 1), db, new(atomic.Int64)}
	env.Values[scriptKey{}].(script).failing.Store(-1)
	operator, err := issue(keys, "tester")
	if err != nil {
		return err
	}
	env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	// Under the race detector each of some 500 commands would sleep a second before it
	// exits, for races of goroutines that have no more to do.
	env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	env.Setenv("CELLCTL_ADDR", addr)
	env.Setenv("CELLCTL_TOKEN", operator)
	return nil
}

// issue signs an operator's token.
func issue(keys token.Keys, subject string) (string, error) {
	return keys.Issue(token.Claims{Kind: token.Operator, Subject: subject}, time.Now(), time.Hour)
}

// startDirectory serves a directory that is kept in a database of its own.
func startDirectory(tb testing.TB, keys token.Keys) (addr, db string) {
	tb.Helper()
	url := testkit.PostgresFilled(tb, "record", store.Migrate)
	record, err := store.Open(tb.Context(), url, 4)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(record.Close)
	beat(tb, record)
	s, err := server.New(server.Options{Directory: record, Rollouts: record, Keys: keys, Registry: prometheus.NewRegistry(), Schema: record.Schema})
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(telemetry.HTTP(slog.New(slog.DiscardHandler), "directory", true, s))
	tb.Cleanup(srv.Close)
	return srv.URL, url
}

// alive lets the cells that are registered be heard of, but for the one that is called
// silent: from then on beat keeps them so.
func alive(ts *testscript.TestScript, _ bool, _ []string) {
	s := ts.Value(scriptKey{}).(script)
	conn, err := pgx.Connect(s.tb.Context(), s.db)
	ts.Check(err)
	_, err = conn.Exec(s.tb.Context(), `
		INSERT INTO directory.heartbeats (cell, address, incarnation)
		SELECT id, address, incarnation FROM directory.cells WHERE id <> 'silent'
		    ON CONFLICT (cell) DO UPDATE SET seen_at = now()`)
	ts.Check(err)
	ts.Check(conn.Close(s.tb.Context()))
}

// beat keeps the cells that a script registers alive, but for the one that is called
// silent, until the script ends.
func beat(tb testing.TB, record *store.Store) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var work sync.WaitGroup
	work.Go(func() {
		every := time.NewTicker(directory.HeartbeatTTL / 5)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			cells, _ := record.ListCells(ctx) // the script itself shows what is wrong
			for _, c := range cells {
				if c.ID == "silent" {
					continue
				}
				_ = record.Heartbeat(ctx, c.ID, c.Incarnation)
			}
		}
	})
	tb.Cleanup(func() { cancel(); work.Wait() })
}

// exits CODE COMMAND... runs a command that has to end with CODE.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// as NAME makes the operator NAME run what comes next.
func as(ts *testscript.TestScript, _ bool, args []string) {
	operator, err := issue(ts.Value(scriptKey{}).(script).keys, args[0])
	ts.Check(err)
	ts.Setenv("CELLCTL_TOKEN", operator)
}

// follows ROUTER LAG makes a router acknowledge the version that is LAG behind the newest.
func follows(ts *testscript.TestScript, _ bool, args []string) {
	ctx := ts.Value(scriptKey{}).(script).tb.Context()
	lag, err := strconv.Atoi(args[1])
	ts.Check(err)
	d, err := client.New(client.Options{URL: ts.Getenv("CELLCTL_ADDR"), Token: ts.Getenv("CELLCTL_TOKEN")})
	ts.Check(err)
	mark, err := d.Watermark(ctx)
	ts.Check(err)
	_, err = d.Changes(ctx, args[0], mark.Version-directory.Version(lag), 0)
	ts.Check(err)
}

// stages PERCENT: a router takes part in roll-outs until the script ends, and so many
// of its requests fail, from now on, while it serves the changes of one.
func stages(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(scriptKey{}).(script)
	percent, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	if s.failing.Swap(percent) >= 0 {
		return // it polls already
	}
	record, err := store.Open(s.tb.Context(), s.db, 2)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.tb.Context()))
	var has directory.Report
	poll := func() {
		mark, _ := record.Watermark(ctx) // the script itself shows what is wrong
		u, err := record.Poll(ctx, "edge-1", mark.Version, 0, has)
		if err == nil && u.Part != nil {
			has = directory.Report{Rollout: u.Part.Rollout, Round: u.Part.Round}
			if u.Part.Serves() {
				has.Requests, has.Failed = 100, s.failing.Load()
			}
		}
		_, _, _ = record.StepRollout(ctx) // as the directory does
	}
	poll()
	var work sync.WaitGroup
	work.Go(func() {
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-every.C:
				poll()
			}
		}
	})
	ts.Defer(func() { cancel(); work.Wait(); record.Close() })
}

// mute sets $MUTE to the URL of a server that takes connections and never answers.
func mute(ts *testscript.TestScript, _ bool, _ []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
	ts.Setenv("MUTE", "http://"+ln.Addr().String())
}

// router FILE is a router's admin listener whose /explain answers with FILE.
func router(ts *testscript.TestScript, _ bool, args []string) {
	answer := ts.ReadFile(args[0])
	queries := ts.Value(scriptKey{}).(script).asked
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/explain" {
			http.NotFound(w, r)
			return
		}
		select {
		case queries <- r.URL.Query():
		default: // the script looks at the first one only
		}
		fmt.Fprint(w, answer)
	}))
	ts.Defer(srv.Close)
	ts.Setenv("CELLCTL_ROUTER", srv.URL)
}

// asked KEY=VALUE... checks the query that the router got.
func asked(ts *testscript.TestScript, _ bool, args []string) {
	var got url.Values
	select {
	case got = <-ts.Value(scriptKey{}).(script).asked:
	default:
		ts.Fatalf("the router was not asked")
	}
	for _, arg := range args {
		key, want, _ := strings.Cut(arg, "=")
		if got.Get(key) != want {
			ts.Fatalf("query %s: got %q, want %q", key, got.Get(key), want)
		}
	}
	if len(got) != len(args) {
		ts.Fatalf("query: got %v, want %d parameters", got, len(args))
	}
}

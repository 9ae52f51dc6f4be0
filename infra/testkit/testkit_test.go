package testkit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := open(t, Postgres(t)), open(t, Postgres(t))
	if _, err := first.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
		t.Fatal(err)
	}
	var found bool
	if err := second.QueryRow(t.Context(), "SELECT to_regclass('mine') IS NOT NULL").Scan(&found); err != nil {
		t.Fatal(err)
	}
	if found {
		t.Error("the second database shows the first one's table")
	}
}

func TestAFilledDatabaseIsACopyOfItsOwn(t *testing.T) {
	t.Parallel()
	filled := 0
	fill := func(ctx context.Context, url string) error {
		filled++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "CREATE TABLE items AS SELECT 1 AS id")
		return errors.Join(err, conn.Close(ctx))
	}
	for range 2 {
		var n int
		conn := open(t, PostgresFilled(t, "items", fill))
		if err := conn.QueryRow(t.Context(), "INSERT INTO items SELECT 2 RETURNING (SELECT count(*) FROM items)").Scan(&n); err != nil || n != 1 {
			t.Errorf("got %d items before, %v, want the one that was made", n, err)
		}
	}
	if filled != 1 {
		t.Errorf("it was filled %d times, want once", filled)
	}
}

func TestADatabaseGoesWithItsTest(t *testing.T) {
	t.Parallel()
	admin := open(t, Postgres(t))
	var name string
	t.Run("inner", func(t *testing.T) {
		conn := open(t, Postgres(t))
		if err := conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var left bool
	if err := admin.QueryRow(t.Context(), "SELECT exists(SELECT FROM pg_database WHERE datname = $1)", name).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left {
		t.Errorf("%s is still there", name)
	}
}

func TestPostgresWantsARoleAndItsPassword(t *testing.T) {
	t.Parallel()
	url := Postgres(t)
	if _, err := open(t, url).Exec(t.Context(), "CREATE ROLE testkit_app LOGIN PASSWORD 'right'"); err != nil {
		t.Fatal(err)
	}
	open(t, SetUser(t, url, "testkit_app", "right"))
	for _, wrong := range []string{SetUser(t, url, "testkit_app", "wrong"), SetUser(t, url, "nobody_knows", "right")} {
		conn, err := pgx.Connect(t.Context(), wrong)
		if err == nil {
			conn.Close(t.Context())
			t.Errorf("connected with %s", wrong)
		}
	}
}

func TestEachRedisIsAServerOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := RedisClient(t, Redis(t)), RedisClient(t, Redis(t))
	if err := first.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := second.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("second server has %d keys (%v), want 0", n, err)
	}
}

func TestConsulAgentTakesWrites(t *testing.T) {
	t.Parallel()
	c, err := api.NewClient(&api.Config{Address: Consul(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KV().Put(&api.KVPair{Key: "key", Value: []byte("value")}, nil); err != nil {
		t.Fatal(err)
	}
	got, _, err := c.KV().Get("key", nil)
	if err != nil || got == nil || string(got.Value) != "value" {
		t.Errorf("got %v (%v), want value", got, err)
	}
}

func TestChoice(t *testing.T) {
	t.Run("local leaves no choice", func(t *testing.T) {
		t.Setenv(modeEnv, modeLocal)
		got, err := choose(t.Context(), "postgres")
		if err != nil || got.Image != "" {
			t.Errorf("got %+v (%v), want this machine's programs", got, err)
		}
	})
	t.Run("an unknown mode is refused", func(t *testing.T) {
		t.Setenv(modeEnv, "podman")
		if _, err := choose(t.Context(), "postgres"); err == nil || !strings.Contains(err.Error(), `"podman"`) {
			t.Errorf("got %v, want an error that shows the value", err)
		}
	})
	t.Run("no engine or no image means local", func(t *testing.T) {
		t.Setenv(modeEnv, "")
		t.Setenv("CELLWAY_TEST_POSTGRES_IMAGE", "cellway.invalid/no-such-image:1")
		got, err := choose(t.Context(), "postgres")
		if err != nil || got.Image != "" || !strings.Contains(got.Reason, "Docker engine") {
			t.Errorf("got %+v (%v), want this machine's programs and the reason", got, err)
		}
	})
	t.Run("containers without the image is an error and no pull", func(t *testing.T) {
		t.Setenv(modeEnv, modeContainers)
		t.Setenv("CELLWAY_TEST_POSTGRES_IMAGE", "cellway.invalid/no-such-image:1")
		if got, err := choose(t.Context(), "postgres"); err == nil {
			t.Errorf("got %+v, want an error", got)
		}
	})
}

func TestServersInContainers(t *testing.T) {
	if os.Getenv(modeEnv) == modeLocal {
		t.Skip(modeEnv + "=" + modeLocal)
	}
	t.Run("postgres", func(t *testing.T) {
		srv, err := containerPostgres(t.Context(), imageOf(t, "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, srv.stop)
		var max string
		if err := open(t, srv.url("postgres")).QueryRow(t.Context(), "SHOW max_connections").Scan(&max); err != nil || max != "200" {
			t.Errorf("max_connections is %s (%v), want 200", max, err)
		}
	})
	t.Run("redis", func(t *testing.T) {
		url, end, err := containerRedis(t.Context(), imageOf(t, "redis"))
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, end)
		if err := RedisClient(t, url).Ping(t.Context()).Err(); err != nil {
			t.Error(err)
		}
	})
}

// imageOf is an image that the engine has, or the reason to skip.
func imageOf(t *testing.T, kind string) string {
	t.Helper()
	c, err := choose(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	if c.Image == "" {
		t.Skip(c.Reason)
	}
	return c.Image
}

func stop(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

package server_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestRollouts holds the API, over a record in Postgres, to the contract.
func TestRollouts(t *testing.T) {
	t.Parallel()
	directorytest.RunRollouts(t, func(t *testing.T) directorytest.Staged {
		url := testkit.Postgres(t)
		if err := store.Migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		record, err := store.Open(t.Context(), url, 16)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(record.Close)
		b := serve(t, record, func(o *server.Options) { o.Rollouts = record })
		t.Cleanup(func() {
			if problems, err := testutil.GatherAndLint(b.registry); err != nil || len(problems) > 0 {
				t.Errorf("metrics: %v, %v", problems, err)
			}
		})
		c := b.client(t, token.Operator)
		return directorytest.Staged{Directory: c, Rollouts: c, Step: record.StepRollout}
	})
}

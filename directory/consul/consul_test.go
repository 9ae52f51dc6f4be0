package consul_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/consul"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// agent is a fresh agent: our client of it, and Consul's own to disturb it with.
func agent(t *testing.T) (*consul.Client, *api.Client) {
	t.Helper()
	address := testkit.Consul(t)
	c, err := consul.New(address)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	settled(t, raw)
	return c, raw
}

// settled waits until a fresh agent is in its own catalog, healthy; until then
// it may lose sight of what is registered for a moment.
func settled(t *testing.T, raw *api.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for index := uint64(0); ; {
		opts := (&api.QueryOptions{WaitIndex: index, WaitTime: time.Second}).WithContext(ctx)
		checks, meta, err := raw.Health().State(api.HealthPassing, opts)
		if err != nil {
			t.Fatalf("wait for the agent: %v", err)
		}
		if slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return c.CheckID == "serfHealth" }) {
			return
		}
		index = meta.LastIndex
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()
	directorytest.RunMembership(t, func(t *testing.T) directorytest.Members {
		c, raw := agent(t)
		return directorytest.Members{Membership: c.Membership(), Forget: func(t *testing.T, id directory.CellID) {
			if err := raw.Agent().ServiceDeregister("cellway-cell-" + string(id)); err != nil {
				t.Fatalf("deregister: %v", err)
			}
		}}
	})
}

func TestLeaser(t *testing.T) {
	t.Parallel()
	directorytest.RunLeaser(t, func(t *testing.T) directorytest.Leases {
		c, raw := agent(t)
		return directorytest.Leases{Leaser: c.Leaser(), Break: func(t *testing.T, name string) {
			pair, _, err := raw.KV().Get("cellway/lease/"+name, nil)
			if err != nil || pair == nil {
				t.Fatalf("find the lock: %v, %v", pair, err)
			}
			if _, err := raw.Session().Destroy(pair.Session, nil); err != nil {
				t.Fatalf("destroy session: %v", err)
			}
		}}
	})
}

func TestTheHolderIsTheLocksValue(t *testing.T) {
	t.Parallel()
	c, raw := agent(t)
	lease, err := c.Leaser().Acquire(t.Context(), "job", "directory-7")
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	pair, _, err := raw.KV().Get("cellway/lease/job", nil)
	if err != nil || pair == nil || string(pair.Value) != "directory-7" {
		t.Errorf("lock: got %v, %v", pair, err)
	}
	if err := lease.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
	sessions, _, err := raw.Session().List(nil)
	if err != nil || len(sessions) != 0 {
		t.Errorf("sessions after the release: got %v, %v, want none", sessions, err)
	}
}

package consul

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/cellway/cellway/directory"
)

// service is the name under which every cell is registered; which one it is, its
// address and its database are in the service's meta data.
const service = "cellway-cell"

const (
	metaCell        = "cell"
	metaAddress     = "address"
	metaIncarnation = "incarnation"
)

// forgetAfter is when Consul drops a service that nobody took off.
const forgetAfter = 10 * time.Minute

// A Membership registers cells as services with a TTL check.
type Membership struct{ client *Client }

var _ directory.Membership = (*Membership)(nil)

// Membership is the agent's.
func (c *Client) Membership() *Membership { return &Membership{c} }

// Join implements directory.Membership.
func (m *Membership) Join(ctx context.Context, c directory.Cell) error {
	reg, err := registration(c)
	if err != nil {
		return err
	}
	if err := m.register(ctx, reg); err != nil {
		return fmt.Errorf("join as %s: %w", c.ID, err)
	}
	go m.keepAlive(ctx, reg) // ends with ctx
	return nil
}

func registration(c directory.Cell) (*api.AgentServiceRegistration, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, fmt.Errorf("read address of %s: %w", c.ID, err)
	}
	port, _ := strconv.Atoi(u.Port()) // "" is the scheme's; the whole address is in the meta data
	return &api.AgentServiceRegistration{
		ID: service + "-" + string(c.ID), Name: service, Address: u.Hostname(), Port: port,
		Meta: map[string]string{metaCell: string(c.ID), metaAddress: c.Address, metaIncarnation: c.Incarnation},
		Check: &api.AgentServiceCheck{
			TTL: directory.HeartbeatTTL.String(), Status: api.HealthPassing, DeregisterCriticalServiceAfter: forgetAfter.String(),
		},
	}, nil
}

func (m *Membership) register(ctx context.Context, reg *api.AgentServiceRegistration) error {
	ctx, cancel := short(ctx)
	defer cancel()
	return m.client.api.Agent().ServiceRegisterOpts(reg, api.ServiceRegisterOpts{}.WithContext(ctx))
}

// keepAlive passes the check until ctx ends. An agent that does not know the
// service, because it lost its state, gets it again.
func (m *Membership) keepAlive(ctx context.Context, reg *api.AgentServiceRegistration) {
	for pause(ctx, directory.HeartbeatTTL/4) == nil {
		if m.pass(ctx, reg) == nil {
			continue
		}
		if err := m.register(ctx, reg); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "announce cell to consul", "service", reg.ID, "error", err)
		}
	}
	// ctx has ended; taking the service off needs a moment of its own.
	ctx, cancel := short(context.WithoutCancel(ctx))
	defer cancel()
	if err := m.client.api.Agent().ServiceDeregisterOpts(reg.ID, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		slog.WarnContext(ctx, "take cell off consul", "service", reg.ID, "error", err)
	}
}

func (m *Membership) pass(ctx context.Context, reg *api.AgentServiceRegistration) error {
	ctx, cancel := short(ctx)
	defer cancel()
	return m.client.api.Agent().UpdateTTLOpts("service:"+reg.ID, "", api.HealthPassing, (&api.QueryOptions{}).WithContext(ctx))
}

// Members implements directory.Membership.
func (m *Membership) Members(ctx context.Context, index uint64, wait time.Duration) ([]directory.Member, uint64, error) {
	// The caller's index names a set, Consul's a moment: the first query finds
	// the moment, the following wait for a later one.
	var moment uint64
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		members, next, err := m.alive(ctx, moment, min(left, pollTime))
		if err != nil {
			return nil, 0, fmt.Errorf("list members: %w", err)
		}
		if next < moment {
			next = 0 // Consul started over
		}
		moment = next
		now := directory.MembersIndex(members)
		if now != index || time.Until(end) <= 0 {
			return members, now, nil
		}
	}
}

// alive is who passes its check, by id, once it differs from what it was at moment.
func (m *Membership) alive(ctx context.Context, moment uint64, wait time.Duration) ([]directory.Member, uint64, error) {
	opts, cancel := blocking(ctx, moment, max(wait, time.Millisecond))
	defer cancel()
	entries, meta, err := m.client.api.Health().Service(service, "", true, opts)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, 0, err
	}
	members := []directory.Member{}
	for _, e := range entries {
		meta := e.Service.Meta
		members = append(members, directory.Member{
			ID: directory.CellID(meta[metaCell]), Address: meta[metaAddress], Incarnation: meta[metaIncarnation],
		})
	}
	slices.SortFunc(members, func(a, b directory.Member) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Address, b.Address))
	})
	// Several processes of one cell, each at its own agent, are one member.
	members = slices.CompactFunc(members, func(a, b directory.Member) bool { return a.ID == b.ID })
	return members, meta.LastIndex, nil
}

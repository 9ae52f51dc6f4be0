package benchmove

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// A sqlAck is one committed write of a mobile client.
type sqlAck struct {
	at     time.Time
	target bool
}

// mobile are clients of one tenant that speak to the databases, source and
// target, past routers and cells: they find the tenant by its fence, as routers and
// cells do by theirs, so that every way to move it is measured alike. Each
// client writes at its share of a rate, and when it is refused asks both sides
// every half millisecond who serves the tenant now.
type mobile struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	sides  [2]string // where the tenant may be served: URLs, of the role that cells run as

	mu   sync.Mutex
	acks []sqlAck

	stop func() error
}

const mobileClients = 4

func startMobile(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, source, target string, rate int) *mobile {
	m := &mobile{tenant: tenant, epoch: epoch, sides: [2]string{source, target}}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var failed error
	for range mobileClients {
		wg.Go(func() {
			c := &mobileClient{mobile: m, at: 0, epoch: epoch}
			defer c.close()
			if err := c.run(ctx, time.Second*mobileClients/time.Duration(rate)); err != nil && ctx.Err() == nil {
				m.mu.Lock()
				defer m.mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	m.stop = func() error {
		cancel()
		wg.Wait()
		return failed
	}
	return m
}

// arrived reports whether the target has acknowledged a write.
func (m *mobile) arrived() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.acks {
		if a.target {
			return true
		}
	}
	return false
}

// pause is the time from the last commit at the source to the first at the
// target, and when that was.
func (m *mobile) pause() (time.Duration, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var last, first time.Time
	for _, a := range m.acks {
		switch {
		case !a.target && a.at.After(last):
			last = a.at
		case a.target && (first.IsZero() || a.at.Before(first)):
			first = a.at
		}
	}
	return first.Sub(last), first
}

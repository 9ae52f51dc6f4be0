package benchmove

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// A mobileClient is one of a mobile's clients: one write at a time.
type mobileClient struct {
	*mobile
	conns [2]*pgx.Conn
	at    int // the side it believes in
	epoch directory.Epoch
}

func (c *mobileClient) close() {
	for _, conn := range c.conns {
		if conn != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(ctx) // it is of no use any more
			cancel()
		}
	}
}

func (c *mobileClient) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.write(ctx); err != nil {
			return err
		}
	}
}

// write writes one row where the tenant is served, however long that takes.
func (c *mobileClient) write(ctx context.Context) error {
	for ctx.Err() == nil {
		conn, err := c.conn(ctx, c.at)
		if err == nil {
			err = insertOne(ctx, conn, c.tenant, c.epoch)
		}
		switch {
		case err == nil:
			c.mu.Lock()
			c.acks = append(c.acks, sqlAck{time.Now(), c.at == 1})
			c.mu.Unlock()
			return nil
		case !refused(err):
			return fmt.Errorf("write at side %d: %w", c.at, err)
		}
		if err := c.find(ctx); err != nil {
			return err
		}
	}
	return nil
}

// find asks both sides until one serves the tenant.
func (c *mobileClient) find(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for {
		var best directory.Epoch
		for i := range c.sides {
			if e := c.serves(ctx, i); e > best {
				best, c.at, c.epoch = e, i, e
			}
		}
		if best > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// serves is the epoch at which a side serves the tenant, 0 where it does not: a
// target that is being made may not even be there.
func (c *mobileClient) serves(ctx context.Context, i int) directory.Epoch {
	conn, err := c.conn(ctx, i)
	if err != nil {
		return 0
	}
	var state string
	var epoch directory.Epoch
	err = conn.QueryRow(ctx, `SELECT state, epoch FROM cell.fence_of($1)`, c.tenant).Scan(&state, &epoch)
	if err != nil || state != "active" {
		return 0
	}
	return epoch
}

// conn is the client's connection to a side. Plans are not kept: a target may be
// made anew under it.
func (c *mobileClient) conn(ctx context.Context, i int) (*pgx.Conn, error) {
	if c.conns[i] != nil && !c.conns[i].IsClosed() {
		return c.conns[i], nil
	}
	conn, err := pgx.Connect(ctx, c.sides[i])
	if err == nil {
		c.conns[i] = conn
	}
	return conn, err
}

// Package keeper does with a cell's durable keys what a module in the cell does: it
// passes the fence and has the cell's keep store a value. No module of ours has such
// values so far, and a move has to bring them; so the chaos stands for one.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// module is the name of the module that it stands for.
const module = "chaos"

// A Cell is one cell's Postgres, where the fence is, and its Redis.
type Cell struct {
	store *store.Store
	keep  *keep.Keep
	redis *redis.Client // to look with
}

// Open connects to a cell, as the role that its processes have.
func Open(ctx context.Context, id directory.CellID, databaseURL, redisURL string) (*Cell, error) {
	redis.SetLogger(quiet{})
	opt, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, errors.New("parse redis url: not a redis:// URL") // the text may hold a password
	}
	k, err := keep.Open(redisURL, keep.Options{})
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, databaseURL, store.Options{Cell: id, Pool: 4})
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return &Cell{s, k, redis.NewClient(opt)}, nil
}

// Close ends the connections.
func (c *Cell) Close() error {
	c.store.Close()
	return errors.Join(c.keep.Close(), c.redis.Close())
}

// quiet drops what go-redis has to say of servers that were killed on purpose.
type quiet struct{}

// Printf is what go-redis calls.
func (quiet) Printf(context.Context, string, ...any) {}

// Set stores value under the tenant's key called name for ttl, 0 being without end; a
// value of "" deletes. The errors are those of store.InTenant and of keep.Set.
func (c *Cell) Set(ctx context.Context, t directory.TenantID, e directory.Epoch, name, value string, ttl time.Duration) error {
	var key keep.Key
	err := c.store.InTenant(ctx, t, e, func(_ context.Context, tx *store.Tx) error {
		key = keep.NewKey(tx, module, name)
		return nil
	})
	// From here on the tenant may be frozen. The key knows the epoch at which it was made.
	switch {
	case err != nil:
		return err
	case value == "":
		return c.keep.Delete(ctx, key)
	}
	return c.keep.Set(ctx, key, []byte(value), ttl)
}

// A Value is what Redis has under a key. The zero Value is nothing.
type Value struct {
	Text string
	Ends time.Time // zero: never
}

// Read is what Redis has under the tenant's keys, whoever may be served by the cell.
func (c *Cell) Read(ctx context.Context, t directory.TenantID, names []string) ([]Value, error) {
	texts, ends := make([]*redis.StringCmd, len(names)), make([]*redis.DurationCmd, len(names))
	_, err := c.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			key := keep.NewKey(&store.Tx{Tenant: t}, module, name).String()
			texts[i], ends[i] = p.Get(ctx, key), p.PExpireTime(ctx, key)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read durable keys: %w", err)
	}
	values := make([]Value, len(names))
	for i := range names {
		values[i].Text = texts[i].Val()
		if at := ends[i].Val(); at > 0 {
			values[i].Ends = time.UnixMilli(at.Milliseconds())
		}
	}
	return values, nil
}

// Durable is the names, as Redis has them, of all durable keys of the tenant here, whoever may be
// served by the cell.
func (c *Cell) Durable(ctx context.Context, t directory.TenantID) ([]string, error) {
	var all []string
	prefix := keep.NewKey(&store.Tx{Tenant: t}, "").String()
	for cursor := uint64(0); ; {
		found, next, err := c.redis.Scan(ctx, cursor, prefix+"*", 500).Result()
		if err != nil {
			return nil, fmt.Errorf("look for durable keys: %w", err)
		}
		all = append(all, found...)
		if cursor = next; cursor == 0 {
			slices.Sort(all)
			return slices.Compact(all), nil // a scan may say a name twice
		}
	}
}

// A Receipt is what a cell's Redis has noted of the move that brought the tenant's keys.
type Receipt struct {
	Move directory.MoveID
	All  bool // the end of its last round has come
}

// Received is the Receipt of the tenant's last arrival. Its first durable write at the cell
// removes it.
func (c *Cell) Received(ctx context.Context, t directory.TenantID) (r Receipt, err error) {
	name := fmt.Sprintf("{t:%d}:move:received", t)
	var noted *redis.SliceCmd
	var ends *redis.DurationCmd
	_, err = c.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		noted, ends = p.HMGet(ctx, name, "move", "version"), p.PTTL(ctx, name)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("read what a move has brought: %w", err)
	}
	move, _ := noted.Val()[0].(string) // nil: there is none
	return Receipt{directory.MoveID(move), ends.Val() > 0 && noted.Val()[1] != "0"}, nil
}

// LimitEnds reports whether the state of the tenant's limit ends by itself, as it is
// written to, or is not there.
func (c *Cell) LimitEnds(ctx context.Context, t directory.TenantID) (bool, error) {
	left, err := c.redis.PTTL(ctx, keep.Rate(t)).Result()
	if err != nil {
		return false, fmt.Errorf("read the limit: %w", err)
	}
	return left != -1, nil
}

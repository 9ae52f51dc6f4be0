package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

const (
	// member is the name of whoever reads for a group. All processes use the same:
	// whoever has a partition finds the pending entries of the one before.
	member     = "worker"
	readCount  = 256
	readBlock  = 250 * time.Millisecond // so a partition that is new is read soon
	redisError = 500 * time.Millisecond // wait after an error of Redis
)

// A group is one consumer's work in this process.
type group struct {
	w        *Worker
	consumer Consumer
	lanes    *lanes

	mu      sync.Mutex
	owned   map[int]bool // partitions; true: its pending entries were read
	changed chan struct{}
}

func newGroup(w *Worker, c Consumer) *group {
	return &group{w: w, consumer: c, lanes: newLanes(), owned: map[int]bool{}, changed: make(chan struct{}, 1)}
}

// own has the partition until ctx ends.
func (g *group) own(ctx context.Context, partition int) {
	g.mu.Lock()
	g.owned[partition] = false
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
	<-ctx.Done()
	g.mu.Lock()
	delete(g.owned, partition)
	g.mu.Unlock()
	g.lanes.drop(func(t directory.TenantID) bool { return outbox.Partition(t) == partition })
}

// partitions are those that the group has, and of these the ones of which the
// pending entries have to be read first.
func (g *group) partitions() (all, fresh []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all = slices.Sorted(maps.Keys(g.owned))
	for _, p := range all {
		if !g.owned[p] {
			fresh = append(fresh, p)
		}
	}
	return all, fresh
}

// pendingRead marks whether the pending entries of partitions were read.
func (g *group) pendingRead(read bool, partitions ...int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range partitions {
		if _, ok := g.owned[p]; ok {
			g.owned[p] = read
		}
	}
}

// read brings entries from the streams to the lanes.
func (g *group) read(ctx context.Context) error {
	for ctx.Err() == nil {
		all, fresh := g.partitions()
		if len(all) == 0 {
			select {
			case <-ctx.Done():
			case <-g.changed:
			}
			continue
		}
		err := g.readOnce(ctx, all, fresh)
		if err == nil || ctx.Err() != nil {
			continue
		}
		g.pendingRead(false, all...) // the answer may have been lost on its way
		if strings.HasPrefix(err.Error(), "NOGROUP") {
			err = g.createGroups(ctx, all)
		}
		if err != nil {
			g.w.o.Log.WarnContext(ctx, "read events", "consumer", g.consumer.Name, "error", err)
			store.Wait(ctx, redisError)
		}
	}
	return nil
}

// readOnce reads the pending entries of fresh partitions, then what is new.
func (g *group) readOnce(ctx context.Context, all, fresh []int) error {
	for _, p := range fresh {
		if err := g.readPending(ctx, p); err != nil {
			return err
		}
		g.pendingRead(true, p)
	}
	args := &redis.XReadGroupArgs{Group: g.consumer.Name, Consumer: member, Count: readCount, Block: readBlock}
	for _, p := range all {
		args.Streams = append(args.Streams, outbox.Stream(p))
	}
	for range all {
		args.Streams = append(args.Streams, ">")
	}
	streams, err := g.w.redis.XReadGroup(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range streams {
		g.take(ctx, s)
	}
	return nil
}

// readPending reads what was given to this group and never acknowledged.
func (g *group) readPending(ctx context.Context, partition int) error {
	for last := "0"; ; {
		streams, err := g.w.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: g.consumer.Name, Consumer: member, Count: readCount, Block: -1, // -1: do not block
			Streams: []string{outbox.Stream(partition), last},
		}).Result()
		if err != nil {
			return err
		}
		if len(streams) == 0 || len(streams[0].Messages) == 0 {
			return nil
		}
		g.take(ctx, streams[0])
		last = streams[0].Messages[len(streams[0].Messages)-1].ID
	}
}

// take gives a stream's entries to the lanes.
func (g *group) take(ctx context.Context, s redis.XStream) {
	var done []string
	for _, m := range s.Messages {
		if m.Values == nil {
			done = append(done, m.ID) // trimmed from the stream before it was done; the sweep finds it
			continue
		}
		e, err := outbox.FromEntry(m.Values)
		if err != nil {
			g.w.o.Log.ErrorContext(ctx, "drop entry", "consumer", g.consumer.Name, "stream", s.Stream, "entry", m.ID, "error", err)
			done = append(done, m.ID)
			continue
		}
		if !g.lanes.hear(e.Tenant, e.Epoch, e.Seq, &entry{m.ID, e}) {
			done = append(done, m.ID)
		}
	}
	g.ack(ctx, s.Stream, done)
}

// ack tells Redis that entries are done. Where that fails they are read, and
// dropped, again.
func (g *group) ack(ctx context.Context, stream string, ids []string) {
	if len(ids) == 0 {
		return
	}
	if err := g.w.redis.XAck(ctx, stream, g.consumer.Name, ids...).Err(); err != nil {
		all, _ := g.partitions()
		g.pendingRead(false, all...)
	}
}

// erase takes entries of a deleted tenant out of the stream. A relay that had read them before
// may send them when the tenant's purge has been there. Where it fails they go by their age.
func (g *group) erase(ctx context.Context, stream string, ids []string) {
	if len(ids) == 0 {
		return
	}
	if err := g.w.redis.XDel(ctx, stream, ids...).Err(); err != nil {
		g.w.o.Log.WarnContext(ctx, "erase events of a deleted tenant", "consumer", g.consumer.Name, "stream", stream, "error", err)
	}
}

// createGroups makes the groups, and streams, that Redis does not have.
func (g *group) createGroups(ctx context.Context, partitions []int) error {
	for _, p := range partitions {
		err := g.w.redis.XGroupCreateMkStream(ctx, outbox.Stream(p), g.consumer.Name, "0").Err()
		if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return fmt.Errorf("create consumer group: %w", err)
		}
	}
	return nil
}

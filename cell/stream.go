package cell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

const (
	streamBeat  = 15 * time.Second // a comment, and a look, where nothing else happens
	streamWrite = 10 * time.Second // a peer that takes no byte for so long is gone
	streamRead  = 10 * time.Second // for one batch

	// A client comes back after retryLeast to retryMost: those of a tenant that
	// moved do not all knock at once.
	retryLeast = time.Second
	retryMost  = 5 * time.Second
)

// A Message is one server-sent event. It tells of one event of the tenant's outbox.
type Message struct {
	Seq   int64  // that event's number
	Event string // and its id
	Data  []byte // one line
}

// A Feed reads messages from the number from on, in order, that one among them where
// it exists: two at least where there are as many. It runs in a transaction of its own
// each time, so that nothing is read for a tenant that another cell has.
type Feed func(ctx context.Context, tx *store.Tx, from int64) ([]Message, error)

// Stream answers with what feed has and will have behind a place, as server-sent
// events, until the client goes, the tenant moves or stands still, or the process
// stops. Where the place is not of this database's history, because the database has
// lost its last commits, it says so and begins at the beginning. An error means that
// nothing was written. It is not bound to the time that a request may take. Whoever
// writes what feed reads says so with WakeStreams.
func (d *DB) Stream(ctx context.Context, w http.ResponseWriter, after Place, feed Feed) error {
	c := callFrom(ctx)
	if c == nil || c.tenant == 0 {
		return errors.New("open stream: the context has no tenant")
	}
	x, err := d.streams.take(c.tenant, c.epoch)
	if err != nil {
		return err
	}
	defer d.streams.leave(x)
	first, err := d.read(ctx, after, feed)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(c.peer, cancel)()
	c.opened = time.Since(c.began)
	out := newSender(w)
	why, err := d.pour(ctx, out, x, first, after, feed)
	if why != overPeer {
		_ = out.bound() // net/http writes the end of the answer: it must not look cut off
	}
	d.streams.ended.WithLabelValues(why).Inc()
	telemetry.RequestFrom(ctx).Err = err
	return nil
}

// A batch is what one look at the database found.
type batch struct {
	messages []Message
	lost     bool // the place that was asked for; the messages are from the beginning on
}

// read is one batch, in a transaction that passes the fence. It looks each time
// whether the place is still there: a database may lose it under an open stream.
func (d *DB) read(ctx context.Context, after Place, feed Feed) (b batch, err error) {
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	err = d.InTenant(ctx, func(ctx context.Context, tx *store.Tx) error {
		found, err := feed(ctx, tx, after.Seq)
		if err != nil {
			return err
		}
		if b.messages, b.lost, err = after.Behind(ctx, tx, found); err != nil || !b.lost {
			return err
		}
		b.messages, err = feed(ctx, tx, 0)
		return err
	})
	return b, err
}

// pour sends batches until something ends the stream, and says what. The error
// is for the log.
func (d *DB) pour(ctx context.Context, out *sender, x *seat, b batch, after Place, feed Feed) (why string, err error) {
	if err := out.begin(); err != nil {
		return overPeer, nil
	}
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		select {
		case <-x.over: // also while there is always more to read
			return x.why, nil
		default:
		}
		if b.lost {
			d.streams.reset.Inc()
			out.reset(after)
			after = Place{}
		}
		if err := out.send(b.messages); err != nil {
			return overPeer, nil
		}
		if n := len(b.messages); n > 0 {
			after = b.messages[n-1].Place()
			beat.Reset(streamBeat)
		} else if why := x.pause(ctx, out, beat.C); why != "" {
			return why, nil
		}
		switch b, err = d.read(ctx, after, feed); {
		case ctx.Err() != nil:
			return overPeer, nil
		case errors.Is(err, problem.Stale):
			return overFence, nil
		case err != nil:
			return overError, err
		}
	}
}

// pause waits until there may be something to read; it says why there will not be.
func (x *seat) pause(ctx context.Context, out *sender, beat <-chan time.Time) (why string) {
	select {
	case <-x.wake:
	case <-beat:
		if out.beat() != nil {
			return overPeer
		}
	case <-x.over:
		return x.why
	case <-ctx.Done():
		return overPeer
	}
	return ""
}

// A sender writes server-sent events, whole ones at a time, and flushes them.
type sender struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	text bytes.Buffer
}

func newSender(w http.ResponseWriter) *sender {
	return &sender{w: w, rc: http.NewResponseController(w)}
}

// begin sends the head and how long the client waits before it comes back.
func (s *sender) begin() error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for proxies between a router and its clients
	fmt.Fprintf(&s.text, "retry: %d\n\n", (retryLeast + rand.N(retryMost-retryLeast)).Milliseconds())
	return s.flush()
}

// reset tells the client, before what is sent next, that what it has seen up to its
// place need not have happened, and lets it come back for the beginning.
func (s *sender) reset(seen Place) {
	fmt.Fprintf(&s.text, "event: reset\nid: 0\ndata: {\"reason\":\"lost\",\"last_event_id\":%q}\n\n", seen)
}

func (s *sender) send(messages []Message) error {
	for _, m := range messages {
		fmt.Fprintf(&s.text, "id: %s\ndata: %s\n\n", m.Place(), m.Data)
	}
	return s.flush()
}

// beat tells everybody on the way that the stream lives.
func (s *sender) beat() error {
	s.text.WriteString(":\n\n")
	return s.flush()
}

func (s *sender) flush() error {
	if s.text.Len() == 0 {
		return nil
	}
	if err := s.bound(); err != nil {
		return err
	}
	defer s.text.Reset()
	if _, err := s.w.Write(s.text.Bytes()); err != nil {
		return err
	}
	return s.rc.Flush()
}

// bound gives the peer streamWrite to take what is written next.
func (s *sender) bound() error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return fmt.Errorf("bound write: %w", err)
	}
	return nil
}

// StopStreams ends the open streams, so that their clients connect elsewhere, and
// opens no more. A process that stops calls it first.
func (d *DB) StopStreams() { d.streams.stop() }

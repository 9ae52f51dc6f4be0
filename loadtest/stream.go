package loadtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// comeBack is how long a client waits that was never told how long.
const comeBack = time.Second

// A Follower is a client of a tenant's event stream, as a browser is one: where
// the stream ends, it connects again with the last id that it has seen.
type Follower struct {
	tenant *Tenant
	router int // 0 takes them in turn
	last   int64
	id     string // of the last event, as it came
	retry  time.Duration

	Connected int      // how often it has got a stream
	Refused   []string // answers that were none
}

// Follow makes a follower of the tenant's activity that asks a router, from 1; 0 is
// any. It begins with the first event.
func (t *Tenant) Follow(router int) *Follower {
	return &Follower{tenant: t, router: router, retry: comeBack, id: "0"}
}

// Run calls seen with each event until ctx ends. It returns an error where an event
// does not follow the one before, or the cell says that what was seen is lost.
func (f *Follower) Run(ctx context.Context, seen func(Event)) error {
	for ctx.Err() == nil {
		if err := f.connect(ctx, seen); err != nil {
			return err
		}
		Pause(ctx, f.retry)
	}
	return nil
}

// connect follows one stream to its end.
func (f *Follower) connect(ctx context.Context, seen func(Event)) error {
	ep, header := f.tenant.ep, http.Header{"Last-Event-Id": {f.id}}
	req, err := newRequest(ctx, ep.router(f.router), Request{Path: "/v1/activity/stream", Token: f.tenant.Token, Header: header})
	if err != nil {
		return err
	}
	client := http.Client{Transport: ep.http.Transport} // a stream has no time limit
	resp, err := client.Do(req)
	if err != nil {
		f.refused(ctx, err.Error())
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for the message
		f.refused(ctx, resp.Status+" "+string(body))
		return nil
	}
	f.Connected++
	return f.read(resp.Body, seen)
}

func (f *Follower) refused(ctx context.Context, why string) {
	if ctx.Err() == nil {
		f.Refused = append(f.Refused, why)
	}
}

// read takes the events of one stream. One that was cut short is dropped, as the
// format wants it: an event counts when its blank line has come.
func (f *Follower) read(stream io.Reader, seen func(Event)) error {
	var data, id string
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				f.retry = time.Duration(ms) * time.Millisecond
			}
		case "event":
			if value == "reset" {
				return fmt.Errorf("stream of %s: event %d, which was seen, is not there any more", f.tenant.Slug, f.last)
			}
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if data == "" {
				continue
			}
			var e Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return fmt.Errorf("read event after %d of %s: %w", f.last, f.tenant.Slug, err)
			}
			if e.Seq != f.last+1 {
				return fmt.Errorf("stream of %s: event %d came after %d", f.tenant.Slug, e.Seq, f.last)
			}
			f.last, f.id, data = e.Seq, id, ""
			seen(e)
		}
	}
	return nil
}

// Package client asks a cell's transfer endpoint to do its part of a move.
//
// Every step may be repeated, so a caller that does not know whether its call
// arrived calls again. Errors are problem.Errors: Conflict where the fence does
// not await this move, Unavailable where the cell does not answer or the
// tenant's transactions did not end in time.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// A Client speaks to one cell.
type Client struct {
	by   Mover
	cell directory.CellID
	url  string // the cell's admin listener
	http *http.Client
}

// A Mover is who asks. What it signs, for one cell each, is all that cells get to see of it.
type Mover struct {
	ID   string
	Keys token.Keys
}

// How long what a mover has signed counts: for itself, as far as clocks may differ; for the
// target, whose copy may wait for its turn, as long as that.
const (
	forItself = 5 * time.Minute
	forTarget = 24 * time.Hour
)

// New makes a client, for a mover, of the cell whose admin listener is at url. Deadlines are
// the callers' contexts': a copy may take hours.
func New(by Mover, cell directory.CellID, url string, h *http.Client) *Client {
	return &Client{by: by, cell: cell, url: strings.TrimSuffix(url, "/"), http: h}
}

// Preflight reports what would make a move unsafe here and, where measure is set, how
// much there is to move.
func (c *Client) Preflight(ctx context.Context, m transfer.Move, measure bool) (r transfer.Report, err error) {
	err = c.call(ctx, "preflight", transfer.Request{Move: m, Unmeasured: !measure, AsksEarly: true}, &r)
	return r, err
}

// Fence is the tenant's fence in the cell.
func (c *Client) Fence(ctx context.Context, t directory.TenantID) (f fence.Fence, err error) {
	err = c.call(ctx, "fence", transfer.Request{Move: transfer.Move{Tenant: t}}, &f)
	return f, err
}

// Reserve makes the target's fence await the tenant.
func (c *Client) Reserve(ctx context.Context, m transfer.Move) error {
	return c.call(ctx, "reserve", transfer.Request{Move: m}, nil)
}

// Arm makes the source note the keys of rows that change, waiting for the
// tenant's open transactions at most wait.
func (c *Client) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	return c.call(ctx, "arm", transfer.Request{Move: m, WaitMS: wait.Milliseconds()}, nil)
}

// Pull makes the target take one round from the source at sourceURL; a final one as soon
// as the tenant is frozen there, for which it waits a while.
func (c *Client) Pull(ctx context.Context, m transfer.Move, sourceURL string, final bool) (r transfer.Received, err error) {
	ask, err := c.by.Keys.Issue(token.Claims{Kind: token.Cell, Subject: string(m.Target), Cell: m.Source, Move: m.ID}, time.Now(), forTarget)
	if err != nil {
		return r, fmt.Errorf("pull: %w", err)
	}
	err = c.call(ctx, "pull", transfer.Request{Move: m, SourceURL: sourceURL, Final: final, AsksEarly: final, Ask: ask}, &r)
	return r, err
}

// Coming is what has come of the round that the target takes now. A cell of before does not know the question.
func (c *Client) Coming(ctx context.Context, m transfer.Move) (r transfer.Coming, err error) {
	err = c.call(ctx, "coming", transfer.Request{Move: m}, &r)
	return r, err
}

// Received is what the target has of the move.
func (c *Client) Received(ctx context.Context, m transfer.Move) (r transfer.Received, err error) {
	err = c.call(ctx, "received", transfer.Request{Move: m}, &r)
	return r, err
}

// Verify checks the target's copy for what hashes do not show.
func (c *Client) Verify(ctx context.Context, m transfer.Move) ([]transfer.Finding, error) {
	var r struct {
		Findings []transfer.Finding `json:"findings"`
	}
	err := c.call(ctx, "verify", transfer.Request{Move: m}, &r)
	return r.Findings, err
}

// Unchanged hashes what was not changed at the target since the switch.
func (c *Client) Unchanged(ctx context.Context, m transfer.Move) (p transfer.Part, err error) {
	err = c.call(ctx, "unchanged", transfer.Request{Move: m}, &p)
	return p, err
}

// Kept hashes the copy that the source keeps, but for the keys given.
func (c *Client) Kept(ctx context.Context, m transfer.Move, keys map[string]json.RawMessage) (d map[string]transfer.Digest, err error) {
	err = c.call(ctx, "kept", transfer.Request{Move: m, Keys: keys}, &d)
	return d, err
}

// Digest hashes the tenant's rows in the cell, by table.
func (c *Client) Digest(ctx context.Context, m transfer.Move) (d map[string]transfer.Digest, err error) {
	err = c.call(ctx, "digest", transfer.Request{Move: m}, &d)
	return d, err
}

// Freeze begins the pause at the source.
func (c *Client) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	return c.call(ctx, "freeze", transfer.Request{Move: m, WaitMS: wait.Milliseconds()}, nil)
}

// Activate ends the pause at the target.
func (c *Client) Activate(ctx context.Context, m transfer.Move) error {
	return c.call(ctx, "activate", transfer.Request{Move: m}, nil)
}

// Retire makes the source's fence a tombstone.
func (c *Client) Retire(ctx context.Context, m transfer.Move) error {
	return c.call(ctx, "retire", transfer.Request{Move: m}, nil)
}

// Release lets the source of an aborted move serve again.
func (c *Client) Release(ctx context.Context, m transfer.Move) error {
	return c.call(ctx, "release", transfer.Request{Move: m}, nil)
}

// Discard makes the target of an aborted move forget it.
func (c *Client) Discard(ctx context.Context, m transfer.Move) error {
	return c.call(ctx, "discard", transfer.Request{Move: m}, nil)
}

// Purge removes the tenant's rows behind the move's tombstone, and the keys that
// were noted while the tenant was there, and returns how many rows there were.
func (c *Client) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	var r struct {
		Rows int64 `json:"rows"`
	}
	if err := c.call(ctx, "purge", transfer.Request{Move: m}, &r); err != nil {
		return 0, err
	}
	return r.Rows, c.Forget(ctx, m)
}

// Disarm ends the noting of keys at the owner, then removes those noted.
func (c *Client) Disarm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	if err := c.call(ctx, "disarm", transfer.Request{Move: m, WaitMS: wait.Milliseconds()}, nil); err != nil {
		return err
	}
	return c.Forget(ctx, m)
}

// Forget removes the keys that were noted, unless the tenant is armed: then they are still
// needed, such as by the watch that an undo interrupted. It may take long.
func (c *Client) Forget(ctx context.Context, m transfer.Move) error {
	var r map[string]int64
	return c.call(ctx, "forget", transfer.Request{Move: m}, &r)
}

// call posts req and reads the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, name string, in transfer.Request, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+transfer.Prefix+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	bearer, err := c.by.Keys.Issue(token.Claims{Kind: token.Mover, Subject: c.by.ID, Cell: c.cell}, time.Now(), forItself)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	if in.Ask != "" {
		req.Header.Set(transfer.AskHeader, "Bearer "+in.Ask)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return problem.Wrap(problem.Unavailable, err, fmt.Sprintf("%s: cell at %s does not answer", name, c.url))
	}
	defer resp.Body.Close()
	done := http.StatusOK
	if out == nil {
		done = http.StatusNoContent
	}
	if resp.StatusCode != done {
		return fmt.Errorf("%s: %w", name, problem.Said(resp, problem.Unavailable))
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return problem.Wrap(problem.Unavailable, err, name+": the cell's answer was cut short")
	}
	return nil
}

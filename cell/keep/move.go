package keep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Bounds of a page, and so of what Redis does at once.
const (
	pageKeys  = 500
	pageBytes = 1 << 20 // a page ends with the value that passes it
)

const (
	notingFor   = time.Hour // without a question; then the move begins anew
	receivedFor = time.Hour // after the last page: it may be asked for again
)

// A Value is the state of one key.
type Value struct {
	Name    string `json:"name"`
	Gone    bool   `json:"gone,omitempty"`
	Value   []byte `json:"value,omitempty"`
	Expires int64  `json:"expires"` // Unix time in ms; -1 is never
}

// A Page is a part of what changed at a source since a version.
type Page struct {
	Whole   bool    `json:"whole"` // it is from the beginning: what the target has does not count
	Final   bool    `json:"final"` // it was read behind the fence, and has the limits in it where More is false
	More    bool    `json:"more"`
	Reached int64   `json:"reached"` // the version to ask from next
	Values  []Value `json:"values"`
}

// A Move says whose keys move, and what for.
type Move struct {
	ID     directory.MoveID
	Tenant directory.TenantID
	Epoch  directory.Epoch // at which the target will serve
}

// Changes reads, at the source, a page of what changed after since; 0 is everything.
// final raises the fence first: of the writes that were let in before the freeze
// none is accepted after this. The caller has seen the tenant frozen for the move.
func (k *Keep) Changes(ctx context.Context, m Move, since int64, final bool) (Page, error) {
	n, raise := namesOf(m.Tenant), int64(0)
	if final {
		raise = int64(m.Epoch)
	}
	keys := append([]string{n.index, n.version, n.noting, n.fence}, rates(m.Tenant)...)
	var got []any
	err := k.try(ctx, func(ctx context.Context) (err error) {
		got, err = changesScript.Run(ctx, k.rdb, keys, since, string(m.ID), raise, pageKeys, pageBytes, notingFor.Milliseconds()).Slice()
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("read changed keys: %w", err)
	}
	p, err := parsePage(got)
	p.Final = final
	return p, err
}

var errScript = errors.New("read changed keys: the script answered with something else")

func parsePage(got []any) (Page, error) {
	if len(got) != 4 {
		return Page{}, errScript
	}
	whole, ok1 := got[0].(int64)
	reached, ok2 := got[1].(int64)
	more, ok3 := got[2].(int64)
	list, ok4 := got[3].([]any)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(list)%3 != 0 {
		return Page{}, errScript
	}
	p := Page{Whole: whole == 1, Reached: reached, More: more == 1}
	for i := 0; i < len(list); i += 3 {
		name, ok1 := list[i].(string)
		value, there := list[i+1].(string)
		expires, ok2 := list[i+2].(int64)
		if !ok1 || !ok2 {
			return Page{}, errScript
		}
		p.Values = append(p.Values, Value{Name: name, Gone: !there, Value: []byte(value), Expires: expires})
	}
	return p, nil
}

// Begin lets the move write at the target, and returns the version of the source
// that is there. Conflict: it may not write, since this cell serves the tenant, or
// has seen a later epoch.
func (k *Keep) Begin(ctx context.Context, m Move) (since int64, err error) {
	n := namesOf(m.Tenant)
	since, err = k.run(ctx, beginScript, []string{n.fence, n.received}, string(m.ID), int64(m.Epoch))
	if err == nil && since < 0 {
		err = late(m)
	}
	return since, err
}

// Apply writes a page at the target, after everything older where the page is the
// first of a whole. Each step of it looks whether the move may still write: what is
// late changes nothing, and is Conflict. A page with another tenant's key is Invalid.
func (k *Keep) Apply(ctx context.Context, m Move, p Page) error {
	if p.Whole {
		if err := k.Clear(ctx, m); err != nil {
			return err
		}
	}
	n, lifetime := namesOf(m.Tenant), int64(0)
	if p.Final && !p.More {
		lifetime = receivedFor.Milliseconds()
	}
	keys := []string{n.fence, n.received, n.index, n.version}
	args := []any{string(m.ID), int64(m.Epoch), p.Reached, lifetime}
	isRate := map[string]bool{}
	for _, r := range rates(m.Tenant) {
		isRate[r] = true
	}
	for _, v := range p.Values {
		if !moves(m.Tenant, v.Name) {
			return problem.New(problem.Invalid, "%q is no key that moves with tenant %d", v.Name, m.Tenant)
		}
		what := classKeep
		switch {
		case v.Gone:
			what = "delete"
		case isRate[v.Name]:
			what = classRate
		}
		keys, args = append(keys, v.Name), append(args, v.Value, v.Expires, what)
	}
	done, err := k.run(ctx, applyScript, keys, args...)
	if err == nil && done == 0 {
		err = late(m)
	}
	return err
}

// Clear deletes, batch by batch, what the tenant left here when it was here before. Conflict: as of Apply.
func (k *Keep) Clear(ctx context.Context, m Move) error {
	for {
		more, err := k.clear(ctx, m.Tenant, m.Epoch, m.ID)
		if err != nil || !more {
			return err
		}
	}
}

// Purge deletes, batch by batch, what a tenant that left at the epoch has left
// behind. The fence stays. Conflict: the cell has seen a later epoch.
func (k *Keep) Purge(ctx context.Context, t directory.TenantID, at directory.Epoch) error {
	for {
		more, err := k.clear(ctx, t, at, "")
		if err != nil || !more {
			return err
		}
	}
}

func (k *Keep) clear(ctx context.Context, t directory.TenantID, at directory.Epoch, move directory.MoveID) (more bool, err error) {
	n := namesOf(t)
	keys := append([]string{n.fence, n.received, n.index, n.version, n.noting}, rates(t)...)
	got, err := k.run(ctx, clearScript, keys, int64(at), string(move), pageKeys)
	if err == nil && got < 0 {
		err = late(Move{ID: move, Tenant: t, Epoch: at})
	}
	return got == 1, err
}

// run runs a script that answers with a number.
func (k *Keep) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (n int64, err error) {
	err = k.try(ctx, func(ctx context.Context) (err error) {
		n, err = s.Run(ctx, k.rdb, keys, args...).Int64()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("move keys: %w", err)
	}
	return n, nil
}

func late(m Move) error {
	return problem.New(problem.Conflict, "the redis of this cell does not await tenant %d of move %q at epoch %d", m.Tenant, m.ID, m.Epoch)
}

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// Durable keys: how many a tenant has, and how long it thinks at most between two writes.
const (
	keyNames   = 16
	keyThink   = 160 * time.Millisecond
	keyGiveUp  = 90 * time.Second
	keyAskMost = 5 * time.Second // for one question
)

// A word is the last one that was acknowledged of a durable key.
type word struct {
	value    string           // "" deletes
	from, to time.Time        // its time ends between; zero: never
	at       time.Time        // when it was acknowledged
	by       directory.CellID // and by whose Redis
}

// kept is what a tenant remembers of its durable keys. One goroutine at a time has it.
type kept struct {
	tenant *loadtest.Tenant
	rng    *rand.Rand
	place  directory.Placement // where it was last
	writes int                 // begun
	acked  int
	words  map[string]word               // by name
	came   arrival                       // to where it is, as of the last look
	left   map[directory.CellID][]string // keys that were found at a cell where it is not, and that may be there
}

func newKept(t *loadtest.Tenant, seed uint64) *kept {
	return &kept{
		tenant: t, rng: rand.New(rand.NewPCG(seed, uint64(t.ID))), words: map[string]word{},
		came: arrival{cell: t.Placement.Cell}, left: map[directory.CellID][]string{},
	}
}

// names are the keys that were written so far, in a fixed order.
func (k *kept) names() []string {
	var all []string
	for n := range keyNames {
		if _, written := k.words[keyName(n)]; written {
			all = append(all, keyName(n))
		}
	}
	return all
}

func keyName(n int) string { return fmt.Sprintf("k%d", n) }

// writeKeys writes the tenant's keys, one after the other, until stop is closed. What
// was begun is repeated until it is acknowledged.
func (r *run) writeKeys(ctx context.Context, k *kept, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := r.writeKey(ctx, k); err != nil {
			return fmt.Errorf("durable keys of %s: %w", k.tenant.Slug, err)
		}
		if !loadtest.Pause(ctx, time.Duration(k.rng.Int64N(int64(keyThink)))) {
			return ctx.Err()
		}
	}
}

func (r *run) writeKey(ctx context.Context, k *kept) error {
	k.writes++
	name, ttl := keyName(k.rng.IntN(keyNames)), time.Duration(0)
	w := word{value: fmt.Sprintf("%s-%d", name, k.writes)}
	switch dice := k.rng.IntN(100); {
	case dice < 15:
		w.value = ""
	case dice < 45: // ends while its tenant moves, or soon after
		ttl = 2*time.Second + time.Duration(k.rng.Int64N(int64(10*time.Second)))
	case dice < 70:
		ttl = time.Hour
	}
	for began := time.Now(); ; {
		sent := time.Now()
		if w.from.IsZero() && ttl > 0 {
			w.from = sent.Add(ttl) // the first attempt's may be what is stored
		}
		err := r.setKey(ctx, k, name, w.value, ttl)
		if err == nil {
			w.at, w.by = time.Now(), k.place.Cell
			if ttl > 0 {
				w.to = w.at.Add(ttl)
			}
			k.words[name], k.acked = w, k.acked+1
			return nil
		}
		if time.Since(began) > keyGiveUp || !loadtest.Pause(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// setKey makes one attempt, where the tenant was last; where it is not there any more, the
// next one asks for its place.
func (r *run) setKey(ctx context.Context, k *kept, name, value string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, keyAskMost)
	defer cancel()
	if k.place.Cell == "" {
		at, err := r.owner(ctx, k.tenant.ID)
		if err != nil {
			return err
		}
		if err := r.receive(ctx, k, at.Cell); err != nil {
			return err
		}
		k.place = at
	}
	err := r.keepers[k.place.Cell].Set(ctx, k.tenant.ID, k.place.Epoch, name, value, ttl)
	if errors.Is(err, problem.Stale) {
		k.place = directory.Placement{}
	}
	return err
}

// keyClock is how far a time to live may be from what the writer's clock says: Redis'
// own stands still while it does something.
const keyClock = 100 * time.Millisecond

// wrong says how what was found between asked and told differs from the word, "" where
// it does not. alien says that no loss explains it: nobody has ever written that.
func (w word) wrong(name string, v keeper.Value, writes int, asked, told time.Time) (what string, alien bool) {
	over := !w.to.IsZero() && asked.After(w.to.Add(keyClock))
	mayBeOver := !w.from.IsZero() && told.After(w.from.Add(-keyClock))
	var number int
	if v.Text != "" {
		rest, ours := strings.CutPrefix(v.Text, name+"-")
		if _, err := fmt.Sscanf(rest, "%d", &number); err != nil || !ours || number < 1 || number > writes {
			return fmt.Sprintf("%s is %q, which nobody wrote", name, v.Text), true
		}
	}
	switch {
	case v.Text == "" && (w.value == "" || mayBeOver):
		return "", false
	case v.Text == "":
		return fmt.Sprintf("%s is not there, %q was acknowledged", name, w.value), false
	case v.Text == w.value && over:
		return fmt.Sprintf("%s is %q, whose time was over at %s", name, v.Text, clock(w.to)), true
	case v.Text == w.value && !w.ends(v.Ends):
		return fmt.Sprintf("%s is %q and ends at %s, not from %s to %s", name, v.Text, clock(v.Ends), clock(w.from), clock(w.to)), true
	case v.Text == w.value:
		return "", false
	}
	return fmt.Sprintf("%s is %q, the last word that was acknowledged is %q", name, v.Text, w.value), false
}

// ends reports whether a time to live that ends at is the word's.
func (w word) ends(at time.Time) bool {
	if w.to.IsZero() || at.IsZero() {
		return w.to.IsZero() && at.IsZero()
	}
	return !at.Before(w.from.Add(-keyClock)) && !at.After(w.to.Add(keyClock))
}

// clock is a time as messages tell it.
func clock(t time.Time) string {
	if t.IsZero() {
		return "no time"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// checkKeys holds, of durable keys and of limits, I14: each key has its last acknowledged word
// and its time to live, and the tenant has nothing of its allowance again before its time,
// but for what the promises let Redis lose.
func (r *run) checkKeys(ctx context.Context, t *loadtest.Tenant, began time.Time) error {
	k := r.kept[t.ID]
	owner, err := r.owner(ctx, t.ID)
	if err != nil {
		return err
	}
	h := hop{from: r.placed[t.ID], to: owner.Cell, began: began, over: r.switchedAt(t.ID, began)}
	if err := r.receive(ctx, k, owner.Cell); err != nil {
		return err
	}
	if h.moved() {
		if h.without, err = r.withoutKeys(ctx, k); err != nil {
			return err
		}
	}
	names, cell := k.names(), r.keepers[owner.Cell]
	asked := time.Now()
	values, err := cell.Read(ctx, t.ID, names)
	if err != nil {
		return err
	}
	told := time.Now()
	c := KeyCheck{Compared: len(names)}
	if h.without {
		c.Without++
	}
	for i, name := range names {
		w := k.words[name]
		what, alien := w.wrong(name, values[i], k.writes, asked, told)
		if what == "" {
			continue
		}
		if !alien && h.mayLose(w.at, w.by, r.deaths()) {
			c.Allowed++
		} else {
			c.Lost++
			r.violate("I14", "%s on %s: durable key %s", t.Slug, owner.Cell, what)
		}
		// From now on this is what it is to stay.
		k.words[name] = word{value: values[i].Text, from: values[i].Ends, to: values[i].Ends, at: told, by: owner.Cell}
	}
	for _, b := range t.GivenBack() {
		if h.mayLoseLimit(b, r.deaths()) {
			c.LimitsAllowed++
			continue
		}
		r.violate("I14", "%s on %s: at least %d requests of its limit were forgotten between %s and %s",
			t.Slug, owner.Cell, b.Requests, clock(b.Since), clock(b.At))
	}
	if ends, err := cell.LimitEnds(ctx, t.ID); err != nil {
		return err
	} else if !ends {
		r.violate("I14", "%s on %s: the state of its limit has lost its time to live", t.Slug, owner.Cell)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Keys = r.report.Keys.plus(c)
	r.placed[t.ID] = owner.Cell
	return nil
}

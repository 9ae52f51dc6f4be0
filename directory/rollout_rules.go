package directory

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// judgeFrom is how many requests it takes to halt before the soak time is over.
const judgeFrom = 20

// judgeFew and half are for a wave that gets hardly any requests when the soak time is
// over: a router that a balancer has taken out because of the changes answers no more
// than these few. So few halt it where that much more of them than of the others' failed.
const (
	judgeFew = 5
	half     = 0.5
)

// takeTime is how long a live router of the wave may take to have its part: it polls
// every three seconds at least.
const takeTime = 2 * HeartbeatTTL

// Begin is the roll-out that n asks for, with its first wave open, over a record
// that says before of each subject.
func (n NewRollout) Begin(id RolloutID, by string, before []RolloutChange, routers []Heard, now time.Time) (Rollout, error) {
	r := Rollout{
		ID: id, State: RolloutRunning, Changes: slices.Clone(n.Changes), Before: before, Why: n.Why, By: by,
		Soak: cmp.Or(n.Soak, defaultSoak), Requests: defaultRequests, Margin: defaultMargin, Created: now,
	}
	if n.Requests != nil {
		r.Requests = *n.Requests
	}
	if n.Margin != nil {
		r.Margin = *n.Margin
	}
	for i, c := range r.Changes {
		if c.Hosts != nil {
			sorted := slices.AppendSeq([]string{}, slices.Values(*c.Hosts)) // as JSON, none is [], and no change is null
			slices.Sort(sorted)
			c.Hosts, r.Changes[i].Hosts = &sorted, &sorted
		}
		if c.Is(before[i]) {
			e := problem.New(problem.Invalid, "%s is so already", c.Subject())
			e.Fields = []problem.Field{{Pointer: "/changes/" + strconv.Itoa(i), Detail: "changes nothing"}}
			return r, e
		}
	}
	r, opened := r.open(Canary, routers, now)
	if !opened {
		return r, problem.New(problem.Conflict, "no live router takes part in roll-outs")
	}
	return r, nil
}

// open opens a wave, or the next larger one where it has no router that does not
// serve the changes already; false where there is none left.
func (r Rollout) open(w Wave, routers []Heard, now time.Time) (Rollout, bool) {
	var live []string
	for _, h := range routers {
		if h.Live {
			live = append(live, h.Router)
		}
	}
	slices.SortFunc(live, func(a, b string) int { return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), strings.Compare(a, b)) })
	for _, w := range Waves[slices.Index(Waves, w):] {
		size := map[Wave]int{Canary: 1, Tenth: (len(live) + 9) / 10, All: len(live)}[w]
		members := slices.DeleteFunc(slices.Clone(r.Routers), func(id string) bool { return !slices.Contains(live, id) })
		for _, id := range live {
			if len(members) < size && !slices.Contains(members, id) {
				members = append(members, id)
			}
		}
		if len(members) > len(r.Routers) {
			r.Wave, r.Routers, r.Round, r.Opened, r.Changed = w, members, r.Round+1, now, now
			return r, true
		}
	}
	return r, false
}

// rank orders the routers for this roll-out: the canary is not always the same.
func (r Rollout) rank(router string) uint64 {
	sum := sha256.Sum256([]byte(string(r.ID) + " " + router))
	return binary.BigEndian.Uint64(sum[:])
}

// Count adds up the reports on the open wave. What a router says of another part
// than it has to have does not count.
func (r Rollout) Count(routers []Heard) (t Tallies) {
	for _, h := range routers {
		if !h.Live || h.Rollout != r.ID || h.Round != r.Round {
			continue
		}
		side := &t.Rest
		if slices.Contains(r.Routers, h.Router) {
			side = &t.Wave
		}
		side.Routers++
		side.Requests += h.Requests
		side.Failed += h.Failed
	}
	return t
}

// Next is the roll-out one step further, which is the roll-out itself where it is
// not time for one. Done is reached last: the caller then gives the record the
// changes. drift says which part of the record is not as the roll-out found it, ""
// where all of it is.
func (r Rollout) Next(routers []Heard, drift string, now time.Time) (next Rollout, stepped bool) {
	if r.State != RolloutRunning {
		return r, false
	}
	t := r.Count(routers)
	if why := r.wrong(t, routers, drift, now); why != "" {
		return r.Stop(RolloutHalted, why, now), true
	}
	if now.Sub(r.Opened) < r.Soak {
		return r, false
	}
	// With the soak time over, few requests count as well.
	if why := r.worse(t, judgeFew, judgeFew, max(half, r.Margin)); why != "" {
		return r.Stop(RolloutHalted, why, now), true
	}
	if t.Wave.Routers < len(r.Routers) || t.Wave.Requests < r.Requests {
		return r, false
	}
	if why := r.worse(t, 1, judgeFrom, r.Margin); why != "" {
		return r.Stop(RolloutHalted, why, now), true
	}
	r.Base = r.base(t, judgeFrom)
	if next, opened := r.open(r.after(), routers, now); opened {
		return next, true
	}
	return r.Stop(RolloutDone, "", now), true
}

// after is the wave after the open one; after the last one it is the last.
func (r Rollout) after() Wave {
	return Waves[min(slices.Index(Waves, r.Wave)+1, len(Waves)-1)]
}

// wrong says why the roll-out has to halt.
func (r Rollout) wrong(t Tallies, routers []Heard, drift string, now time.Time) string {
	if drift != "" {
		return "the record has changed meanwhile: " + drift
	}
	for _, id := range r.Routers {
		i := slices.IndexFunc(routers, func(h Heard) bool { return h.Router == id })
		if i < 0 || !routers[i].Live {
			return fmt.Sprintf("router %s of the wave has not been heard of for %s", id, HeartbeatTTL)
		}
		h := routers[i]
		has := h.Rollout == r.ID && h.Round == r.Round
		switch x := h.Refused; {
		case !has && x != nil && x.Rollout == r.ID && x.Round == r.Round:
			return fmt.Sprintf("router %s of the wave cannot serve the changes: %s", id, x.Why)
		case !has && min(now.Sub(r.Opened), now.Sub(h.Without)) > takeTime: // one that was started again has to take it anew
			return fmt.Sprintf("router %s of the wave has not taken the changes in %s: see its log", id, takeTime)
		}
	}
	return r.worse(t, judgeFrom, judgeFrom, r.Margin)
}

// worse says that the wave's routers fare worse than the others by more than margin, if
// they have answered so many requests at least. The others tell from rest requests on.
func (r Rollout) worse(t Tallies, least, rest int64, margin float64) string {
	base := r.base(t, rest)
	if t.Wave.Requests < least || t.Wave.Share() <= base+margin {
		return ""
	}
	return fmt.Sprintf("wave %s: %d of %d requests failed (%.1f %%), %.1f %% without the changes",
		r.Wave, t.Wave.Failed, t.Wave.Requests, 100*t.Wave.Share(), 100*base)
}

// base is what the wave is compared with: the routers without the changes or,
// where they have answered fewer than least requests, what they were before.
func (r Rollout) base(t Tallies, least int64) float64 {
	if t.Rest.Requests < least {
		return r.Base
	}
	return t.Rest.Share()
}

// Stop is the roll-out ended or halted.
func (r Rollout) Stop(as RolloutState, why string, now time.Time) Rollout {
	r.State, r.Reason, r.Changed = as, cut(why), now
	return r
}

// Ask is the roll-out as an operator wishes it.
func (r Rollout) Ask(wish RolloutWish, by string, routers []Heard, now time.Time) (Rollout, error) {
	switch {
	case wish == Halt && r.State == RolloutRunning:
		return r.Stop(RolloutHalted, "asked by "+by, now), nil
	case wish == Resume && r.State == RolloutHalted:
		wave := r.Wave
		r.State, r.Reason, r.Routers = RolloutRunning, "", nil
		next, opened := r.open(wave, routers, now)
		if !opened {
			return r, problem.New(problem.Conflict, "no live router takes part in roll-outs")
		}
		return next, nil
	case wish == Abort && r.State.Open():
		return r.Stop(RolloutAborted, "asked by "+by, now), nil
	case wish == Halt && r.State == RolloutHalted, wish == Resume && r.State == RolloutRunning, wish == Abort && r.State == RolloutAborted:
		return r, nil
	}
	return r, problem.New(problem.Conflict, "roll-out %s is %s", r.ID, r.State)
}

// Part is a router's part in r, over the record that says u of the subjects of r.
func (r Rollout) Part(router string, u Update) *Part {
	p := &Part{Rollout: r.ID, Round: r.Round}
	for _, c := range u.Cells {
		p.Watch = append(p.Watch, c.ID)
	}
	for _, t := range u.Routes {
		p.Watch = append(p.Watch, t.Cell)
	}
	if len(u.Routes) > 0 {
		p.Watch = append(p.Watch, "")
	}
	slices.Sort(p.Watch)
	p.Watch = slices.Compact(p.Watch)
	if !slices.Contains(r.Routers, router) {
		return p
	}
	changes := make(map[string]RolloutChange, len(r.Changes))
	for _, c := range r.Changes {
		changes[c.Subject()] = c
	}
	for _, c := range u.Cells {
		c.Address = changes["cell/"+string(c.ID)].Address
		p.Cells = append(p.Cells, c)
	}
	for _, t := range u.Routes {
		c := changes["tenant/"+t.Tenant.String()]
		t.State = ""
		if c.Suspended != nil {
			t.State = Shown(Active, *c.Suspended)
		}
		if c.Hosts != nil {
			t.Hosts = *c.Hosts
		}
		p.Routes = append(p.Routes, t)
	}
	return p
}

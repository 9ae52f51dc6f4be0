package guard

import (
	"sync"
	"time"

	"github.com/cellway/cellway/router/identify"
)

// A verified is whose a token is, for as long as its issuer has these keys.
type verified struct {
	bearer  identify.Bearer
	expires time.Time
	issuer  *issuer
	keys    *keySet
}

// A known is the tokens that were verified. Of each issuer it keeps a number, the oldest
// going first, so that none pushes out what is known of another's. Asking allocates nothing. Its zero value
// knows none.
type known struct {
	mu  sync.RWMutex
	all map[identify.Hash]verified
}

// An order is which of an issuer's tokens are known, in the order in which they came.
// The known's lock is for it, too.
type order struct {
	ring []identify.Hash
	next int  // of a full ring, the oldest
	gone bool // the issuer counts no more
}

// How many tokens are known of one issuer: some half a kilobyte each, with the longest subjects.
const (
	mostKnown = 1 << 15
	mostOwn   = 1 << 13 // of a tenant's own
)

func (k *known) get(h identify.Hash) (verified, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	v, ok := k.all[h]
	return v, ok
}

func (k *known) put(h identify.Hash, v verified) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, most := &v.issuer.order, mostKnown
	if v.issuer.Tenant > 0 {
		most = mostOwn
	}
	before, there := k.all[h]
	switch {
	case o.gone:
		return
	case there && before.issuer == v.issuer:
	case len(o.ring) < most:
		o.ring = append(o.ring, h)
	default:
		k.drop(o.ring[o.next], v.issuer)
		o.ring[o.next], o.next = h, (o.next+1)%most
	}
	if k.all == nil {
		k.all = map[identify.Hash]verified{}
	}
	k.all[h] = v
}

// forget ends what is known of an issuer's tokens.
func (k *known) forget(is *issuer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range is.order.ring {
		k.drop(h, is)
	}
	is.order = order{gone: true}
}

// drop forgets a token, unless it is by now known as another issuer's: one that took the
// place of is. The caller has the lock.
func (k *known) drop(h identify.Hash, is *issuer) {
	if k.all[h].issuer == is {
		delete(k.all, h)
	}
}

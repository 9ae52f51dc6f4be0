package identify

import (
	"crypto/sha256"
	"sync"
	"unsafe"

	"github.com/cellway/cellway/directory/token"
)

// A recalled is what a token of ours says, and the key that has proven it.
type recalled struct {
	claims token.Claims
	by     token.Key
}

// verify is what a token of ours says, unless it has expired. Its signature is
// checked once in a while, for as long as its key is there.
func (c *Chain) verify(bearer string, recalls bool) (token.Claims, error) {
	h, now := HashOf(bearer), c.now()
	if r, ok := c.recent.Get(h); ok && now.Unix() < r.claims.ExpiresAt && c.Keys.Have(r.by) {
		return r.claims, nil
	}
	if recalls {
		return token.Claims{}, errUnasked
	}
	claims, by, err := c.Keys.VerifyBy(bearer, now)
	if err == nil {
		c.recent.Put(h, recalled{claims, by})
	}
	return claims, err
}

// A Recent remembers what secret texts were found to be, by their hash: the texts
// themselves are not kept. It holds at most twice mostRecent, and forgets first what
// was not asked for lately. Asking allocates nothing. Its zero value knows none.
// Whether what was found still holds is for who asks.
type Recent[V any] struct {
	mu         sync.RWMutex
	young, old map[Hash]V
}

const mostRecent = 1 << 14

// A Hash is what a text is known by.
type Hash [sha256.Size]byte

// HashOf is the hash of a text.
func HashOf(text string) Hash {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(text), len(text))) // a copy would be on the heap
}

// Get is what was put under h, if that is known still.
func (r *Recent[V]) Get(h Hash) (V, bool) {
	r.mu.RLock()
	v, ok := r.young[h]
	aged := false
	if !ok {
		v, aged = r.old[h]
	}
	r.mu.RUnlock()
	if aged {
		r.Put(h, v)
	}
	return v, ok || aged
}

// Put remembers v.
func (r *Recent[V]) Put(h Hash, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= mostRecent {
		r.young, r.old = map[Hash]V{}, r.young
	}
	r.young[h] = v
}

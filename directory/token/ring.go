package token

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Ring knows which API keys are valid and which signed tokens are revoked, as of
// one version of the directory's credentials. It is asked without a lock, without
// I/O and without allocating. Its zero value knows none. A key takes about 100 bytes.
type Ring struct {
	current  atomic.Pointer[ring]
	apply    sync.Mutex    // one writer at a time
	changed  chan struct{} // what Changed gave out; nil: nobody has asked since
	restarts atomic.Int64  // see Restarts
	forked   bool          // the last update was of another history; apply's
}

// A ring is never changed after it is stored. What changed lately is in over,
// which is copied with each change, so that a change does not cost a copy of all.
type ring struct {
	version directory.Version
	head    directory.Head // of the chain at version; zero is not known
	keys    map[keyName]ringKey
	over    map[keyName]ringKey // newer than keys; tenant 0 is revoked
	tokens  map[string]int64    // revoked: when they expire, seconds since 1970
	revoked map[keyName]ringKey // keys that never count again; expires is when to forget them
}

type keyName [keyID]byte

type ringKey struct {
	hash    [sha256.Size]byte
	tenant  directory.TenantID
	expires int64 // seconds since 1970; 0: never
}

// Version is the newest that was applied, 0 where none was.
func (r *Ring) Version() directory.Version {
	if v := r.current.Load(); v != nil {
		return v.version
	}
	return 0
}

// Len is how many keys are valid.
func (r *Ring) Len() int {
	v := r.current.Load()
	if v == nil {
		return 0
	}
	n := len(v.keys)
	for name, k := range v.over {
		_, known := v.keys[name]
		switch {
		case k.tenant == 0 && known:
			n--
		case k.tenant != 0 && !known:
			n++
		}
	}
	return n
}

// Head is the head of the chain at Version, zero where it is not known.
func (r *Ring) Head() directory.Head {
	if v := r.current.Load(); v != nil {
		return v.head
	}
	return directory.Head{}
}

// Restarts is how often everything came as of an older version than the ring had, or of
// another history: the directory's record was restored, and what it said since the
// backup is lost.
func (r *Ring) Restarts() int64 { return r.restarts.Load() }

// Apply brings the ring up to date with c. Changes that begin after it are Gone, those
// that do not continue its chain a *directory.Breach, changes that are older are no
// change, what is malformed is Invalid; then nothing changes. Everything, with Since 0,
// takes the place of what the ring has also where it is older, since a record that was
// restored would not be heard before its version had passed the ring's. What is revoked stays revoked whoever says
// otherwise: a directory that lags behind looks like one that was restored.
func (r *Ring) Apply(c directory.Credentials) error {
	r.apply.Lock()
	defer r.apply.Unlock()
	old := r.current.Load()
	older := false
	switch {
	case old == nil && c.Since != 0:
		return problem.New(problem.Gone, "credentials since version %d do not continue nothing", c.Since)
	case old == nil:
		old = &ring{}
	case c.Since == 0:
		older = c.Version < old.version || r.forked
		old = &ring{tokens: old.tokens, revoked: old.revoked}
	case c.Since > old.version:
		return problem.New(problem.Gone, "credentials since version %d do not continue version %d", c.Since, old.version)
	case c.Version < old.version:
		return nil
	}
	err := c.Continues(old.version, old.head)
	if b, broken := errors.AsType[*directory.Breach](err); broken {
		r.forked = b.Reason == directory.Fork
		return err
	}
	r.forked = false
	if c.Since != 0 && c.Version == old.version {
		if old.head != c.Head && !c.Head.IsZero() { // who says no head says nothing of what was before
			same := *old
			same.head = c.Head
			r.current.Store(&same)
		}
		return nil
	}
	next := &ring{version: c.Version, head: c.Head, keys: old.keys, over: maps.Clone(old.over), tokens: old.tokens, revoked: old.revoked}
	now := time.Now()
	next.addRevoked(c.Keys, now)
	if err := next.addKeys(c.Keys); err != nil {
		return err
	}
	if len(c.Tokens) > 0 {
		next.addTokens(c.Tokens, now.Unix())
	}
	r.current.Store(next)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	if older {
		r.restarts.Add(1)
	}
	return nil
}

// Changed is closed with the next update.
func (r *Ring) Changed() <-chan struct{} {
	r.apply.Lock()
	defer r.apply.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

func ringKeyOf(k directory.Key) (name keyName, rk ringKey, err error) {
	hash, err := hex.DecodeString(k.Hash)
	if len(k.ID) != keyID || err != nil || len(hash) != sha256.Size || k.Tenant <= 0 {
		return name, rk, problem.New(problem.Invalid, "key %q is not valid", k.ID)
	}
	copy(name[:], k.ID)
	copy(rk.hash[:], hash)
	rk.tenant = k.Tenant
	if !k.ExpiresAt.IsZero() {
		rk.expires = cmp.Or(k.ExpiresAt.Unix(), 1) // the first second of 1970 is past, and not never
	}
	return name, rk, nil
}

func (v *ring) addKeys(keys []directory.Key) error {
	if v.over == nil {
		v.over = map[keyName]ringKey{}
	}
	for _, k := range keys {
		name, rk, err := ringKeyOf(k)
		if err != nil {
			return err
		}
		if _, gone := v.revoked[name]; gone || k.Revoked {
			rk = ringKey{}
		}
		v.over[name] = rk
	}
	if len(v.over) > max(256, len(v.keys)/16) {
		v.merge()
	}
	return nil
}

// merge makes one map of both.
func (v *ring) merge() {
	all := make(map[keyName]ringKey, len(v.keys)+len(v.over))
	maps.Copy(all, v.keys)
	for name, k := range v.over {
		if k.tenant == 0 {
			delete(all, name)
		} else {
			all[name] = k
		}
	}
	v.keys, v.over = all, nil
}

// Known reports whether the directory has said which credentials there are, be it none.
func (r *Ring) Known() bool { return r.current.Load() != nil }

// errUnknown is a key that nobody can tell from a valid one yet.
var errUnknown = func() error {
	e := problem.New(problem.Unavailable, "the directory has not said yet which API keys there are")
	e.RetryAfter = time.Second
	return e
}()

var errKey = problem.New(problem.Unauthenticated, "API key is not valid")

// Check finds whose key s is and what its id is. Malformed, unknown, revoked and
// expired ones are all the same Unauthenticated; it is Unavailable while the ring is not
// Known.
func (r *Ring) Check(s string, now time.Time) (tenant directory.TenantID, id string, err error) {
	id, ok := APIKeyID(s)
	v := r.current.Load()
	switch {
	case !ok:
		return 0, "", errKey
	case v == nil:
		return 0, "", errUnknown
	}
	k, ok := v.find(id)
	var b [keyLen]byte
	copy(b[:], s)
	sum := sha256.Sum256(b[:])
	same := subtle.ConstantTimeCompare(sum[:], k.hash[:]) == 1
	if !ok || !same || k.tenant == 0 || k.expires != 0 && now.Unix() >= k.expires {
		return 0, "", errKey
	}
	return k.tenant, id, nil
}

// find is the key with an id, as it was recorded last.
func (v *ring) find(id string) (ringKey, bool) {
	var name keyName
	copy(name[:], id)
	k, ok := v.over[name]
	if !ok {
		k, ok = v.keys[name]
	}
	return k, ok
}

// Key is when the key with an id expires (seconds since 1970; 0: never), and whether
// it is there and not revoked.
func (r *Ring) Key(id string) (expires int64, ok bool) {
	v := r.current.Load()
	if v == nil {
		return 0, false
	}
	k, ok := v.find(id)
	return k.expires, ok && k.tenant != 0
}

// Revoked reports whether the signed token with this id is revoked.
func (r *Ring) Revoked(id string) bool {
	v := r.current.Load()
	if v == nil {
		return false
	}
	_, ok := v.tokens[id]
	return ok
}

// All is everything that the ring knows, as one update that Apply takes: what to
// keep on disk. Names and creation times, which nothing asks for, are left out.
func (r *Ring) All() directory.Credentials {
	v := r.current.Load()
	if v == nil {
		return directory.Credentials{}
	}
	whole := ring{keys: v.keys, over: v.over}
	whole.merge()
	c := directory.Credentials{Version: v.version, Head: v.head}
	for name, k := range whole.keys {
		c.Keys = append(c.Keys, k.as(name))
	}
	for name, k := range v.revoked {
		one := k.as(name)
		one.Revoked = true
		c.Keys = append(c.Keys, one)
	}
	for id, expires := range v.tokens {
		c.Tokens = append(c.Tokens, directory.RevokedToken{ID: id, ExpiresAt: time.Unix(expires, 0).UTC()})
	}
	return c
}

func (k ringKey) as(name keyName) directory.Key {
	one := directory.Key{ID: string(name[:]), Tenant: k.tenant, Hash: hex.EncodeToString(k.hash[:])}
	if k.expires != 0 {
		one.ExpiresAt = time.Unix(k.expires, 0).UTC()
	}
	return one
}

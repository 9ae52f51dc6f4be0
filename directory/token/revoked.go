package token

import (
	"time"

	"github.com/cellway/cellway/directory"
)

// revokedKept is how long a ring remembers a revoked key that has no earlier end,
// and so how old a backup of the record may be that knows nothing of it.
const revokedKept = 30 * 24 * time.Hour

// addRevoked notes which of keys never count again, and forgets, on the occasion,
// those that are long past.
func (v *ring) addRevoked(keys []directory.Key, now time.Time) {
	var all map[keyName]ringKey
	for _, k := range keys {
		if !k.Revoked {
			continue
		}
		if all == nil {
			all = make(map[keyName]ringKey, len(v.revoked)+1)
			for name, old := range v.revoked {
				if old.expires > now.Unix() {
					all[name] = old
				}
			}
		}
		name, rk, err := ringKeyOf(k)
		if err != nil {
			return // addKeys says so
		}
		if until := now.Add(revokedKept).Unix(); rk.expires == 0 || rk.expires > until {
			rk.expires = until
		}
		all[name] = rk
	}
	if all != nil {
		v.revoked = all
	}
}

// addTokens forgets, on the occasion, those that have expired.
func (v *ring) addTokens(tokens []directory.RevokedToken, now int64) {
	all := make(map[string]int64, len(v.tokens)+len(tokens))
	for id, expires := range v.tokens {
		if expires > now {
			all[id] = expires
		}
	}
	for _, t := range tokens {
		all[t.ID] = max(all[t.ID], t.ExpiresAt.Unix()) // a record that was restored may know less
	}
	v.tokens = all
}

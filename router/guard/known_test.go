package guard

import (
	"encoding/binary"
	"testing"

	"github.com/cellway/cellway/router/identify"
)

// TestNoIssuerPushesOutAnothers: however many tokens a tenant's own issuer signs, so many of
// them are known, and all of the others'. Of an issuer that is gone none is.
func TestNoIssuerPushesOutAnothers(t *testing.T) {
	t.Parallel()
	var k known
	all, own := &issuer{}, &issuer{Issuer: Issuer{Tenant: 7}}
	var first, last identify.Hash
	first[31] = 1
	k.put(first, verified{issuer: all})
	for n := range 3 * mostOwn {
		binary.LittleEndian.PutUint64(last[:], uint64(n))
		for range 2 {
			k.put(last, verified{issuer: own})
		}
	}
	if v, ok := k.get(first); !ok || v.issuer != all {
		t.Error("another issuer's token is pushed out")
	}
	if _, ok := k.get(last); !ok || len(k.all) != mostOwn+1 {
		t.Errorf("the last is known: %v; %d are", ok, len(k.all))
	}
	k.put(last, verified{issuer: all}) // it has taken the place of the one that goes
	k.forget(own)
	k.put(identify.Hash{2}, verified{issuer: own})
	if v, ok := k.get(last); !ok || v.issuer != all || len(k.all) != 2 {
		t.Errorf("%d are known after the issuer has gone", len(k.all))
	}
}

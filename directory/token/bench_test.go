package token_test

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory/token"
)

// BenchmarkVerify: what a cell pays to check a token with each request, by who it is of. A router
// and a cell check tenants' with each; control tokens are few (decision 28).
func BenchmarkVerify(b *testing.B) {
	keys := newKeys(b, "k1")
	for name, c := range map[string]token.Claims{
		"tenant": {Kind: token.Tenant, Tenant: 7, Subject: "ann"}, "control": {Kind: token.Mover, Subject: "m1", Cell: "c1"},
	} {
		s, err := keys.Issue(c, now, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := keys.Verify(s, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

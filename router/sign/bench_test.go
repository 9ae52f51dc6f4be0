package sign

import (
	"fmt"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/table"
)

// BenchmarkAssertions is the assertion of a request, of so many tenants in turn at 100,000
// requests a second: of one it is kept, of 100,000 each is signed.
func BenchmarkAssertions(b *testing.B) {
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		b.Fatal(err)
	}
	for _, tenants := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(tenants), func(b *testing.B) {
			a, text, now := &Assertions{Keys: keys}, make([]byte, 0, 256), time.Unix(1_800_000_000, 0)
			e := table.Entry{Placement: directory.Placement{Cell: "c1", Epoch: 1, State: directory.Active}}
			for i := 0; b.Loop(); i++ {
				e.Tenant = directory.TenantID(i%tenants + 1)
				text, _ = a.AppendTo(text[:0], e, now.Add(time.Duration(i)*10*time.Microsecond))
			}
		})
	}
}

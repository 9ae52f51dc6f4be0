package streams

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// An end is how a stream was ended, and when.
type end struct {
	h1.Ending
	after time.Duration
}

// A bench is Streams that watch a table, in time that is not real.
type bench struct {
	t     *testing.T
	table *table.Table
	ring  token.Ring
	*Streams
	began time.Time
}

// benched runs a test with the tenants 1 and 2 on c1.
func benched(t *testing.T, test func(b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, table: table.New(), began: time.Now()}
		b.Streams = New(prometheus.NewRegistry(), &identify.Chain{Ring: &b.ring})
		b.place(1, "c1", 1, directory.Active)
		b.place(2, "c1", 1, directory.Active)
		watching := make(chan struct{})
		go func() { // ends with the test's context
			defer close(watching)
			b.Watch(t.Context(), b.table)
		}()
		t.Cleanup(func() { <-watching })
		test(b)
	})
}

func (b *bench) place(id directory.TenantID, cell directory.CellID, e directory.Epoch, s directory.State) {
	b.t.Helper()
	v := b.table.View().Version()
	if err := b.table.Apply(directory.Update{
		Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: cell, Address: "http://" + string(cell), State: directory.Ready}},
		Routes: []directory.Route{{Placement: directory.Placement{Tenant: id, Cell: cell, Epoch: e, State: s}, Slug: "t" + id.String()}},
	}); err != nil {
		b.t.Fatal(err)
	}
}

// streams opens n streams of a tenant, and returns where their ends will be.
func (b *bench) streams(id directory.TenantID, n int, shown identify.Credential) chan end {
	ends := make(chan end, n)
	for range n {
		b.Add(b.table, directory.Placement{Tenant: id, Cell: "c1", Epoch: 1, State: directory.Active}, shown, func(e h1.Ending) {
			ends <- end{e, time.Since(b.began)}
		})
	}
	return ends
}

// TestAMoveEndsStreamsOneAfterTheOther: a thousand clients do not come back in one instant,
// few do not wait, and nobody waits for long.
func TestAMoveEndsStreamsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		streams int
		within  time.Duration
	}{{1, apart}, {20, 20 * apart}, {1000, Spread}, {5000, Spread}} {
		t.Run("", func(t *testing.T) {
			benched(t, func(b *bench) {
				t := b.t
				ends, others := b.streams(1, tt.streams, identify.Credential{}), b.streams(2, 1, identify.Credential{})
				b.place(1, "c1", 1, directory.Cutover)
				time.Sleep(time.Minute)
				if len(ends) > 0 {
					t.Fatal("a stream ended before the tenant had moved")
				}
				b.began = time.Now()
				b.place(1, "c2", 2, directory.Active)
				time.Sleep(Spread / 2)
				b.place(2, "c1", 1, directory.Active) // another table changes nothing for who leaves
				time.Sleep(time.Minute)
				if len(ends) != tt.streams || len(others) > 0 {
					t.Fatalf("%d of %d streams ended, and %d of another tenant", len(ends), tt.streams, len(others))
				}
				parts := [10]int{}
				for range tt.streams {
					e := <-ends
					if e.Code != 1012 || e.Reason == "" || e.after >= tt.within {
						t.Fatalf("got %+v, want 1012 within %v", e, tt.within)
					}
					parts[e.after*10/tt.within]++
				}
				for i, n := range parts {
					if tt.streams >= 1000 && (n < tt.streams/20 || n > tt.streams/5) {
						t.Errorf("tenth %d has %d of the ends", i, n)
					}
				}
			})
		})
	}
}

// TestWhoLeavesMayHaveToGoAtOnce: what ends a stream for another reason does not wait.
func TestWhoLeavesMayHaveToGoAtOnce(t *testing.T) {
	t.Parallel()
	const n = 1000
	_, key := token.NewAPIKey()
	key.Tenant = 1
	for name, tt := range map[string]struct {
		happens func(b *bench)
		code    uint16
	}{
		"the key is revoked": {func(b *bench) {
			revoked := key
			revoked.Revoked = true
			if err := b.ring.Apply(directory.Credentials{Since: 1, Version: 2, Keys: []directory.Key{revoked}}); err != nil {
				b.t.Fatal(err)
			}
		}, 1008},
		"the tenant is suspended": {func(b *bench) { b.place(1, "c2", 2, directory.Suspended) }, 1008},
		"the router stops":        {func(b *bench) { b.Close() }, 1001},
	} {
		for _, moved := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				benched(t, func(b *bench) {
					t := b.t
					if err := b.ring.Apply(directory.Credentials{Version: 1, Keys: []directory.Key{key}}); err != nil {
						t.Fatal(err)
					}
					ends := b.streams(1, n, identify.Credential{ID: key.ID, Key: true})
					before := 0
					if moved {
						b.place(1, "c2", 2, directory.Active)
						time.Sleep(Spread / 4)
						synctest.Wait()
						before = len(ends)
						for range before {
							<-ends
						}
					}
					b.began = time.Now()
					tt.happens(b)
					synctest.Wait()
					if got := len(ends); got != n-before || moved && (before == 0 || before == n) {
						t.Fatalf("%d streams ended with the move, and then %d, of %d", before, got, n)
					}
					for range n - before {
						if e := <-ends; e.Code != tt.code || e.after != 0 {
							t.Fatalf("got %+v, want %d at once", e, tt.code)
						}
					}
					time.Sleep(time.Minute)
					if len(ends) > 0 {
						t.Errorf("%d streams were ended twice", len(ends))
					}
				})
			})
		}
	}
}

// TestATenantThatIsGoneHasNoStreams: a record that was restored may not have it.
func TestATenantThatIsGoneHasNoStreams(t *testing.T) { //nolint:paralleltest // benched says so
	const n = 3
	benched(t, func(b *bench) {
		ends, others := b.streams(1, n, identify.Credential{}), b.streams(2, 1, identify.Credential{})
		b.place(2, "c1", 1, directory.Active) // all were looked at before
		synctest.Wait()
		if err := b.table.Apply(directory.Update{
			Version: b.table.View().Version() + 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://c1", State: directory.Ready}},
			Routes: []directory.Route{{Placement: directory.Placement{Tenant: 2, Cell: "c1", Epoch: 1, State: directory.Active}, Slug: "t2"}},
		}); err != nil {
			b.t.Fatal(err)
		}
		synctest.Wait()
		if len(ends) != n || len(others) > 0 {
			b.t.Fatalf("%d streams of a tenant that is gone ended, want %d, and %d of another", len(ends), n, len(others))
		}
		if e := <-ends; e.Code != 1008 {
			b.t.Errorf("got %+v", e)
		}
	})
}

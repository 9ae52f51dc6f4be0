package benchmove

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

func idleFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "idle", Title: "what fence, guard, capture and row security cost a tenant's transaction while nothing moves",
			How: "on a cell's Postgres, fsync on: begin with cell.enter in one round trip, insert a row, read it, commit, by the role that the cell runs as, on " +
				"projects.projects; against the same statements on a copy of the table without row security and triggers, and begin without cell.enter, with a statement that does nothing, or with one that reads a fence, locks and names the tenant at once, without a function: it reads before it has the lock, so it is no fence, and what it costs is the floor of one. " +
				"64 tenants; the variants take turns, several times within a round, and a ratio is the median of the turns' ratios of transactions per second. " +
				"One client waits for the disk and the network of its own transaction; eight share commits and fill the cores, which clients and server share.",
			Values: []figure.Value{
				figure.Describe("throughput, 8 clients", "ratio", ">= 0.95"), figure.Describe("throughput, 1 client", "ratio", ">= 0.95"),
				figure.Describe("only cell.enter, 8 clients", "ratio", ""), figure.Describe("floor of cell.enter, 8 clients", "ratio", ""), figure.Describe("only one more statement, 8 clients", "ratio", ""), figure.Describe("only triggers and row security, 8 clients", "ratio", ""),
				figure.Describe("guarded, 8 clients", "tx/s", ""), figure.Describe("bare, 8 clients", "tx/s", ""),
				figure.Describe("guarded, 1 client", "tx/s", ""), figure.Describe("bare, 1 client", "tx/s", ""),
			},
		},
		run: idleRun,
	}
}

// A variant is one form of the transaction.
type variant struct {
	name  string
	first string // the statement that goes with begin
	table string
}

const (
	asTenantSQL = `SELECT set_config('cell.tenant', $1::bigint::text, true), $2::bigint`
	// floorSQL is what a fence does, in the order that makes it none.
	floorSQL = `SELECT set_config('cell.tenant', $1::bigint::text, true), pg_advisory_xact_lock_shared($1::bigint | 8935141660703064064)
		FROM bench.fence WHERE tenant_id = $1::bigint AND epoch = $2::bigint AND state = 'active'`
	nothingSQL = `SELECT $1::bigint, $2::bigint` // what any statement costs, whatever it does
)

var variants = []variant{
	{"bare", "", "bench.bare"},
	{"guarded", enterSQL, "projects.projects"},
	{"enter", enterSQL, "bench.bare"},
	{"table", asTenantSQL, "projects.projects"},
	{"floor", floorSQL, "bench.bare"},
	{"statement", nothingSQL, "bench.bare"},
}

const (
	idleTenants  = 64
	firstIdle    = directory.TenantID(1 << 40) // tenants that the directory does not know
	turnTime     = 500 * time.Millisecond
	turnsOfRound = 4
)

// prepareIdle makes the bare table and the tenants' fences.
const prepareIdle = `
	CREATE SCHEMA bench;
	CREATE TABLE bench.bare (LIKE projects.projects INCLUDING ALL);
	GRANT USAGE ON SCHEMA bench TO cell_app;
	GRANT SELECT, INSERT ON bench.bare TO cell_app;
	INSERT INTO cell.fence (tenant_id, epoch, state) SELECT %[1]d + g, 1, 'active' FROM generate_series(0, %[2]d) g ON CONFLICT DO NOTHING;
	CREATE TABLE bench.fence (LIKE cell.fence INCLUDING ALL);
	INSERT INTO bench.fence SELECT * FROM cell.fence WHERE tenant_id >= %[1]d;
	GRANT SELECT ON bench.fence TO cell_app`

func idleRun(ctx context.Context, l *lab, m *measure) (err error) {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	c := w.state.Cells[0]
	admin := func(sql string) error {
		ctx := context.WithoutCancel(ctx)
		return connected(ctx, c.DatabaseURL, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		})
	}
	if err := admin(fmt.Sprintf(prepareIdle, firstIdle, idleTenants-1)); err != nil {
		return fmt.Errorf("make a bare table: %w", err)
	}
	// Also after a failure: preflight would refuse every later move, because of a
	// tenant table without a guard.
	defer func() { err = errors.Join(err, admin(`DROP SCHEMA bench CASCADE`)) }()
	for round := range l.o.Rounds {
		for _, clients := range []int{8, 1} {
			if err := idleRound(ctx, m, c.AppDatabaseURL, clients); err != nil {
				return err
			}
		}
		l.say("idle: round %d of %d", round+1, l.o.Rounds)
	}
	return nil
}

// idleRound lets the variants take turns, each turn in another order.
func idleRound(ctx context.Context, m *measure, url string, clients int) error {
	pool := make([]*pgx.Conn, clients)
	for i := range pool {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		pool[i] = conn
	}
	ratios, rates := map[string][]float64{}, map[string][]float64{}
	for turn := range turnsOfRound {
		got := map[string]float64{}
		for i := range variants {
			v := variants[(i+turn)%len(variants)]
			rate, err := v.rate(ctx, pool)
			if err != nil {
				return fmt.Errorf("measure %s: %w", v.name, err)
			}
			got[v.name] = rate
		}
		for name, rate := range got {
			ratios[name] = append(ratios[name], rate/got["bare"])
			rates[name] = append(rates[name], rate)
		}
	}
	suffix := ", 8 clients"
	if clients == 1 {
		suffix = ", 1 client"
	}
	m.Add("throughput"+suffix, loadtest.Median(ratios["guarded"]))
	m.Add("guarded"+suffix, loadtest.Median(rates["guarded"]))
	m.Add("bare"+suffix, loadtest.Median(rates["bare"]))
	if clients > 1 {
		m.Add("only cell.enter"+suffix, loadtest.Median(ratios["enter"]))
		m.Add("floor of cell.enter"+suffix, loadtest.Median(ratios["floor"]))
		m.Add("only one more statement"+suffix, loadtest.Median(ratios["statement"]))
		m.Add("only triggers and row security"+suffix, loadtest.Median(ratios["table"]))
	}
	return nil
}

// rate is how many transactions a second all connections make together in a turn.
func (v variant) rate(ctx context.Context, pool []*pgx.Conn) (float64, error) {
	counts, errs := make([]int, len(pool)), make([]error, len(pool))
	began := time.Now()
	var wg sync.WaitGroup
	for i, conn := range pool {
		wg.Go(func() {
			for n := 0; time.Since(began) < turnTime && errs[i] == nil; n++ {
				tenant := firstIdle + directory.TenantID((i+n*len(pool))%idleTenants)
				errs[i] = v.once(ctx, conn, tenant)
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(began).Seconds(), errors.Join(errs...)
}

func (v variant) once(ctx context.Context, conn *pgx.Conn, tenant directory.TenantID) error {
	var args []any
	if v.first != "" {
		args = []any{tenant, directory.Epoch(1)}
	}
	return pipelined(ctx, conn, v.first, args, func(tx pgx.Tx) error {
		id := rowID()
		if _, err := tx.Exec(ctx, `INSERT INTO `+v.table+` (tenant_id, id, name) VALUES ($1, $2, 'a name')`, tenant, id); err != nil {
			return err
		}
		var name string
		return tx.QueryRow(ctx, `SELECT name FROM `+v.table+` WHERE tenant_id = $1 AND id = $2`, tenant, id).Scan(&name)
	})
}

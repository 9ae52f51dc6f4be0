package benchmove

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/local"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// contenderNames are the ways to move a tenant that are compared, ours first.
var contenderNames = []string{"cellway", "native subscription", "psql COPY | COPY", "pg_dump | pg_restore", "pgcopydb"}

func rivalsFigure() *measure {
	values := []figure.Value{}
	for _, of := range []struct{ what, unit string }{{"total", "ms"}, {"pause", "ms"}, {"throughput during", "ratio"}} {
		for _, name := range contenderNames {
			values = append(values, figure.Describe(name+": "+of.what, of.unit, ""))
		}
	}
	for _, name := range contenderNames[1:] {
		goal := map[string]string{"native subscription": "<= 1", "psql COPY | COPY": "<= 0.02", "pg_dump | pg_restore": "<= 0.005"}[name]
		values = append(values, figure.Describe("pause, cellway / "+name, "ratio", goal))
	}
	for _, name := range contenderNames[1:] {
		goal := map[string]string{"native subscription": "<= 0.5"}[name]
		values = append(values, figure.Describe("total, cellway / "+name, "ratio", goal))
	}
	values = append(values, figure.Describe("WAL before any move, wal_level=replica", "B/tx", ""),
		figure.Describe("WAL before any move, wal_level=logical", "B/tx", ""), figure.Describe("WAL, replica / logical", "ratio", "<= 0.8"))
	return &measure{
		Figure: figure.Figure{
			Name: "rivals", Title: "one tenant of 100,000 rows in a database of 300,000, moved by us and by what one would use instead",
			How: "every contender has the same schema, rows and clients. The tenant's clients speak SQL to source and target, 200 writes a second unless --rate " +
				"says otherwise, find the tenant by its fence and ask again every half millisecond: routers and HTTP are left out for all alike, and the " +
				"pause is from the last commit at the source to the first at the target. Two more tenants write to the source without a pause; throughput " +
				"during is their rate while the move lasts, against that just before. Ours is the whole product (directory, mover, the cells' transfer " +
				"endpoints, every row hashed on both sides) with its default settings; native is a row-filtered publication and subscription " +
				"between servers at wal_level=logical with a scripted cutover; the others stop the tenant and copy, pg_dump and pgcopydb the whole database. " +
				"All rivals get our fence to freeze with. Total runs from the order to the first commit at the target.",
			Values: values,
		},
		run: rivalsRun,
	}
}

func rivalsRun(ctx context.Context, l *lab, m *measure) (err error) {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	logical, err := l.logicalPair(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logical.stop(ctx)) }()
	t, err := w.tenant(ctx, l.slug("contended"), w.cell(0))
	if err != nil {
		return err
	}
	replica := &pair{source: w.state.Cells[0], target: w.state.Cells[1], tenant: t.ID}
	for _, p := range []*pair{replica, logical} {
		if err := p.fill(ctx, l.o); err != nil {
			return err
		}
	}
	contenders, err := l.contenders(m, w, replica, logical)
	if err != nil {
		return err
	}
	for round := range l.o.Rounds {
		if err := measureWAL(ctx, m, replica, logical); err != nil {
			return err
		}
		if err := rivalsRound(ctx, l, m, contenders); err != nil {
			return err
		}
		l.say("rivals: round %d of %d", round+1, l.o.Rounds)
	}
	whereWeLose(m)
	return nil
}

// contenders are those whose programs are here.
func (l *lab) contenders(m *measure, w *world, replica, logical *pair) ([]contender, error) {
	bin, err := local.FindPostgres("")
	if err != nil {
		return nil, err
	}
	have := findPrograms(bin)
	all := []contender{w.ours(m, replica), logical.native()}
	if have.psql == "" {
		m.Note("psql COPY | COPY was left out: there is no psql (apt-get install postgresql-client)")
	} else {
		all = append(all, replica.copyCopy(have.psql))
	}
	if have.dump == "" || have.restore == "" {
		m.Note("pg_dump | pg_restore was left out: they are not here (apt-get install postgresql-client)")
	} else {
		c, err := replica.wholeDatabase("pg_dump | pg_restore", have.dumpRestore)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if have.pgcopydb == "" {
		m.Note("pgcopydb was left out: it is not here (apt-get install pgcopydb)")
	} else {
		c, err := replica.wholeDatabase("pgcopydb", have.cloneWith(l.dir))
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// A result is what one contender's move took.
type result struct{ total, pause, throughput float64 }

func rivalsRound(ctx context.Context, l *lab, m *measure, contenders []contender) error {
	var ours result
	for _, c := range contenders {
		got, err := c.measured(ctx, l.o.Rate)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		m.Add(c.name+": total", got.total)
		m.Add(c.name+": pause", got.pause)
		m.Add(c.name+": throughput during", got.throughput)
		if c.name == contenderNames[0] {
			ours = got
			continue
		}
		m.Add("pause, cellway / "+c.name, ours.pause/got.pause)
		m.Add("total, cellway / "+c.name, ours.total/got.total)
	}
	return nil
}

const (
	undisturbed  = 3 * time.Second // how long the source is looked at before a move
	busyClients  = 2
	rivalTimeout = 10 * time.Minute
)

// measured runs one contender's move under load, and takes it back.
func (c contender) measured(ctx context.Context, rate int) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, rivalTimeout)
	defer cancel()
	epoch, err := c.pair.epoch(ctx)
	if err != nil {
		return result{}, err
	}
	clients := startMobile(ctx, c.pair.tenant, epoch, c.pair.source.AppDatabaseURL, c.target, rate)
	others := startBusy(ctx, c.pair.source.AppDatabaseURL, firstBusy, busyClients)
	got, err := c.timed(ctx, clients, others)
	err = errors.Join(err, clients.stop(), others.stop())
	if err != nil {
		return got, err
	}
	return got, c.restore(ctx)
}

func (c contender) timed(ctx context.Context, clients *mobile, others *busy) (result, error) {
	loadtest.Pause(ctx, settle)
	from, began := others.commits.Load(), time.Now()
	loadtest.Pause(ctx, undisturbed)
	before := float64(others.commits.Load()-from) / time.Since(began).Seconds()
	from, began = others.commits.Load(), time.Now()
	if err := c.move(ctx); err != nil {
		return result{}, err
	}
	during := float64(others.commits.Load()-from) / time.Since(began).Seconds()
	err := loadtest.Until(ctx, "a commit at the target", pollFast, func(context.Context) (bool, error) { return clients.arrived(), nil })
	if err != nil {
		return result{}, err
	}
	pause, first := clients.pause()
	return result{total: ms(first.Sub(began)), pause: ms(pause), throughput: during / before}, nil
}

// epoch is the one at which the source serves the tenant.
func (p *pair) epoch(ctx context.Context) (e directory.Epoch, err error) {
	err = p.admin(ctx, p.source, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT epoch FROM cell.fence WHERE tenant_id = $1 AND state = 'active'`, p.tenant).Scan(&e)
	})
	if err != nil {
		return 0, fmt.Errorf("the source does not serve tenant %d: %w", p.tenant, err)
	}
	return e, nil
}

// whereWeLose says which rival is better at what.
func whereWeLose(m *measure) {
	median := map[string]float64{}
	for _, v := range m.Values {
		median[v.Name] = loadtest.Median(v.Rounds)
	}
	for _, name := range contenderNames[1:] {
		if median[name+": total"] == 0 {
			continue
		}
		for _, what := range []string{"total", "pause"} {
			if us, them := median["cellway: "+what], median[name+": "+what]; them < us {
				m.Note("where we lose: %s has the shorter %s, %s against %s ms", name, what, figure.Number(them), figure.Number(us))
			}
		}
		if us, them := median["cellway: throughput during"], median[name+": throughput during"]; them > us {
			m.Note("where we lose: the source keeps %s of its throughput during %s, %s during ours", figure.Number(them), name, figure.Number(us))
		}
	}
}

package bench

import (
	"context"

	"github.com/cellway/cellway/loadtest/figure"
)

// benchDatabase is how the cell's benchmarks are told which server to use: they
// make a database of their own on it.
const benchDatabase = "CELLWAY_BENCH_DATABASE_URL"

// transactions is how many the benchmark runs in all, in 30 turns.
const transactions = "6000x"

func fenceFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "fence", Title: "a tenant's transaction with cell.enter, row security and guard against the same one on a bare table",
			How: "`go test -bench InTenant ./cell/store` against a Postgres with fsync on: an insert and a read, 8 clients, 64 tenants; " +
				"the two take turns within a run, and the ratio is the median of the turns' ratios of transactions per second.",
			Values: []figure.Value{figure.Describe("ratio of throughput", "", ">= 0.9"), figure.Describe("with", "tx/s", ""), figure.Describe("without", "tx/s", "")},
		},
		round: fenceRound,
	}
}

// fenceRound uses the directory's Postgres: a server of the same make and
// settings as the cells', on which no cell's roles are disturbed.
func fenceRound(ctx context.Context, l *lab, m *measure) error {
	if err := l.running(ctx); err != nil {
		return err
	}
	got, err := l.goBench(ctx, "cell/store", "^BenchmarkInTenant$", transactions, benchDatabase+"="+l.stack.State().Directory.DatabaseURL)
	if err != nil {
		return err
	}
	for name, unit := range map[string]string{"ratio of throughput": "ratio", "with": "tenant-tx/s", "without": "bare-tx/s"} {
		v, err := got.take("InTenant", unit)
		if err != nil {
			return err
		}
		m.Add(name, v)
	}
	return nil
}

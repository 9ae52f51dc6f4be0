package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// noneMigrates reports whether nobody migrates the database. Then nobody begins to before the transaction that
// has asked ends.
const noneMigrates = `SELECT pg_try_advisory_xact_lock_shared($1)`

// errMigrates says that a migration is under way. What it does with the rows of all tenants it does not with
// those that come meanwhile.
var errMigrates = problem.New(problem.Unavailable, "a migration of this cell's database is under way")

// applied is the newest migration of each module that has one of the tables: "api 3, projects 2". One that changes
// rows alone leaves no trace in the schema: a tenant that came from a cell without it to one with it would never
// have it. Those of our own schema change no tenant's rows.
func applied(ctx context.Context, db pg.DB, list []Table) (string, error) {
	var all, newest []string
	for _, t := range list {
		if t.Versions != "" && !slices.Contains(all, t.Versions) {
			all = append(all, t.Versions)
			newest = append(newest, "(SELECT coalesce(max(version_id), 0) FROM "+t.Versions+")")
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	var have []int64
	if err := db.QueryRow(ctx, "SELECT ARRAY["+strings.Join(newest, ", ")+"]").Scan(&have); err != nil {
		return "", fmt.Errorf("read migrations: %w", err)
	}
	for i, table := range all {
		all[i] = fmt.Sprintf("%s %d", strings.TrimSuffix(table, ".schema_version"), have[i])
	}
	return strings.Join(all, ", "), nil
}

// sameMigrations is a Conflict where the source had other migrations, when it read the last round, than this cell has.
func sameMigrations(source, here string) error {
	if source == "" || here == source { // it has none, or is of a release that does not tell
		return nil
	}
	return problem.New(problem.Conflict, "the source has other migrations (%s) than the target (%s): the tenant's rows would miss some, or get some twice (fix: bring both to one release)", source, here)
}

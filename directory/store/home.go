package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// homes are where the record was last found and where it is: the cluster, its timeline, the
// database, and the table itself. A promoted or recovered server has another timeline; what
// was loaded from a dump is in another cluster, database or table. Of two servers of which a
// failover left one behind, that one has kept its home, also over a restart. It fails on a standby.
const homes = `
	SELECT v.home, format('%s/%s/%s/%s', (SELECT c.system_identifier FROM pg_control_system() c),
	                      substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
	                      (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()),
	                      'directory.version'::regclass::oid)
	  FROM directory.version v`

// settle notes that the record is in another database than before: from now on for
// directory.LiftWithin it may be lifted, and each cell has to say where it is, which the
// record may have from long ago. It is called with every connection that listens, which
// none outlives a failover, and before a lift.
func (s *Store) settle(ctx context.Context) error {
	var was, is string
	if err := s.pool.QueryRow(ctx, homes).Scan(&was, &is); err != nil || was == is {
		return err
	}
	return s.mutate(directory.WithActor(ctx, "directory"), "note the database", func(tx pgx.Tx) (*change, error) {
		const (
			lock = `SELECT FROM directory.cells ORDER BY id FOR NO KEY UPDATE` // before the version, as ever
			note = `UPDATE directory.version SET home = $2, home_at = now() WHERE home = $1`
			mark = `UPDATE directory.cells SET unheard = true WHERE state <> 'retired'`
		)
		if _, err := tx.Exec(ctx, lock); err != nil {
			return nil, err
		}
		tag, err := tx.Exec(ctx, note, was, is)
		if err != nil || tag.RowsAffected() == 0 || was == "" {
			return nil, err // another process was faster, or nobody knows whether it is another database
		}
		if _, err := tx.Exec(ctx, mark); err != nil {
			return nil, err
		}
		return &change{action: "table.home", subject: "table", before: was, after: is}, nil
	})
}

package transfer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// keysHeld bounds, about, the keys that a table of a round brings at once, in bytes: a target holds them all, to delete their
// rows before others come and to hash those that did.
const keysHeld = 16 << 20

// table sends one table: all that the tenant has of it or, after a snapshot, the keys that were noted and the rows that they
// have. Where the keys are more than a target is to hold, it sends the table several times: first its keys alone, so that the
// old rows of all are gone before the first new one comes, which may have what is unique from another; then a
// part of the keys with its rows each time.
func (s *Source) table(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, tenant directory.TenantID, since string) (n Totals, err error) {
	if err := out.json(frameTable, t.head()); err != nil {
		return n, err
	}
	if since == "" {
		return sendTable(ctx, tx, out, t, fmt.Sprintf("%s t WHERE t.tenant_id = %d", t.Name, tenant))
	}
	where := fmt.Sprintf("tenant_id = %d AND tbl = '%s' AND xid >= pg_snapshot_xmin('%[3]s'::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, '%[3]s'::pg_snapshot)",
		tenant, strings.ReplaceAll(t.Label, "'", "''"), since)
	keys, parts, err := sendKeys(ctx, tx, out, t, changedKeys(where), s.held)
	if err != nil {
		return n, err
	}
	n.Keys = keys
	if parts == 0 {
		return n.with(sendChanged(ctx, tx, out, t, tenant, changedKeys(where), keys))
	}
	n.Tables = parts
	seed := rand.Int64() // nobody can choose keys that are all of one part
	for i := range parts {
		set := changedKeys(fmt.Sprintf("%s AND (jsonb_hash_extended(pk, %d) & 2147483647) %% %d = %d", where, seed, parts, i))
		if err := out.json(frameTable, t.head()); err != nil {
			return n, err
		}
		keys, _, err := sendKeys(ctx, tx, out, t, set, 0)
		if err != nil {
			return n, err
		}
		if n, err = n.with(sendChanged(ctx, tx, out, t, tenant, set, keys)); err != nil {
			return n, err
		}
	}
	return n, nil
}

func changedKeys(where string) string { return "(SELECT pk FROM cell.dirty WHERE " + where + ")" }

// sendChanged sends the rows of a set of so many keys, which ends a table.
func sendChanged(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, tenant directory.TenantID, set string, keys int64) (Totals, error) {
	found, err := t.foundBy(ctx, tx, keys)
	if err != nil {
		return Totals{}, err
	}
	return sendTable(ctx, tx, out, t, found(set, tenant.String()))
}

// sendTable sends the rows t of from, which ends a table.
func sendTable(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, from string) (Totals, error) {
	send := copyRows
	if t.Binary {
		send = streamRows
	}
	d, err := send(ctx, tx, out, t, from)
	if err != nil {
		return Totals{}, err
	}
	return Totals{Tables: 1, Rows: d.Rows}, out.json(frameEnd, d)
}

// with is n and what one more table has brought.
func (n Totals) with(more Totals, err error) (Totals, error) {
	n.Tables, n.Rows = n.Tables+more.Tables, n.Rows+more.Rows
	return n, err
}

// streamRows sends and hashes the rows t of from in one pass.
func streamRows(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, from string) (Digest, error) {
	ctx, cancel := context.WithCancel(ctx)
	a, b := t.hashes()
	rows := tx.Conn().PgConn().ExecParams(ctx, fmt.Sprintf("SELECT %s, %s, %s FROM %s", t.selected(), a, b, from), nil, nil, nil, asBinary)
	defer rows.Close()
	defer cancel() // where it fails, what nobody reads is not sent either
	return sendRows(rows, out)
}

// copyRows sends the rows t of from by COPY, whose text is not that of a result, and
// hashes them in a second pass.
func copyRows(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, from string) (Digest, error) {
	if _, err := tx.Conn().PgConn().CopyTo(ctx, out, fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT (FORMAT text)", t.selected(), from)); err != nil {
		return Digest{}, err
	}
	d, err := scanDigest(tx.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM %s", t.digest(), from)))
	if err != nil {
		return d, fmt.Errorf("hash: %w", err)
	}
	return d, nil
}

// sendKeys sends the keys pk of set, once each, in frames of bounded size. Where they are more than most bytes, most not being
// 0, it ends the table, and begins it again, each time that so many have gone, and after the last: parts says how often.
func sendKeys(ctx context.Context, tx pgx.Tx, out *frameWriter, t Table, set string, most int) (total int64, parts int, err error) {
	rows, err := tx.Query(ctx, fmt.Sprintf("SELECT DISTINCT pk FROM %s k", set))
	if err != nil {
		return 0, 0, fmt.Errorf("read keys: %w", err)
	}
	defer rows.Close()
	var batch keyBatch
	size := 0 // of this part
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return 0, 0, fmt.Errorf("read keys: %w", err)
		}
		full := most > 0 && size > 0 && size+len(key) > most
		if full || !batch.takes(key) {
			if err := batch.send(out); err != nil {
				return 0, 0, err
			}
		}
		if full {
			if err := keysAlone(out, t); err != nil {
				return 0, 0, err
			}
			if err := out.json(frameTable, t.head()); err != nil {
				return 0, 0, err
			}
			parts, size = parts+1, 0
		}
		batch.add(key)
		total, size = total+1, size+len(key)
	}
	if err := rows.Err(); err != nil {
		return 0, 0, fmt.Errorf("read keys: %w", err)
	}
	if err := batch.send(out); err != nil || parts == 0 {
		return total, 0, err
	}
	return total, parts + 1, keysAlone(out, t)
}

// keysAlone ends a table whose keys are sent without rows. COPY skips what is in its head's extension; a target takes such a table
// for none of few rows, which it would keep until others have come.
func keysAlone(out *frameWriter, t Table) error {
	if t.Binary {
		const extension = "\xff\xff"
		head := append(slices.Clone(copyHead[:len(copyHead)-1]), byte(len(extension)))
		if _, err := out.rows(slices.Concat(head, []byte(extension), copyTail), 0); err != nil {
			return err
		}
	}
	return out.json(frameEnd, new(digester).digest())
}

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// pauseBound is how long a tenant may wait in a pause that no fault has met. The movers' budget is 1.2 s, then they
// abort; the rest is for a machine that does other work too.
const pauseBound = 10 * time.Second

// A PauseCheck is what was found of pauses that no fault has met.
type PauseCheck struct {
	Held    int             `json:"held"`
	Longest loadtest.Millis `json:"longest_ms"`
}

// A paused is a move that has made its tenant wait.
type paused struct {
	ID    directory.MoveID
	Phase directory.Phase
	Took  time.Duration // as its mover has measured it
	Began time.Time     // when the record said that the source is to be frozen
}

// checkPauses holds I13 of a tenant's pauses since everything runs again: until the round ends nothing else is struck.
// Of those before, a fault may have met any: a mover that is dead ends no pause.
func (r *run) checkPauses(ctx context.Context, t directory.TenantID) error {
	const since = `
		SELECT m.id, m.phase, (m.report->>'pause_ns')::bigint, f.at
		  FROM directory.moves m
		 CROSS JOIN LATERAL (SELECT min(a.at) AS at FROM directory.audit a WHERE a.subject = 'move/' || m.id AND a.after->>'phase' = 'frozen') f
		 WHERE m.tenant = $1 AND f.at > $2 AND (m.report->>'pause_ns')::bigint > 0`
	r.mu.Lock()
	healed := r.healed
	r.mu.Unlock()
	rows, err := r.record.Query(ctx, since, int64(t), healed)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[paused])
	if err != nil {
		return err
	}
	for _, p := range all {
		if what := r.tallyPause(p); what != "" {
			r.violate("I13", "%s", what)
		}
	}
	return nil
}

// tallyPause counts a pause, and says what is wrong with it.
func (r *run) tallyPause(p paused) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.report.Pauses
	c.Held++
	c.Longest = max(c.Longest, loadtest.Millis(p.Took))
	if p.Took <= pauseBound {
		return ""
	}
	return fmt.Sprintf("move %s, %s, made its tenant wait for %v from %s on, when nothing was broken", p.ID, p.Phase, p.Took, p.Began.Format(time.StampMilli))
}

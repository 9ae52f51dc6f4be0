package transfer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
)

// Coming is what has come, so far, of a round that is under way. It is not stored for good
// before the round ends, and lost where that fails.
type Coming struct {
	Rows  int64         `json:"rows"`
	Bytes int64         `json:"bytes"`    // of COPY data
	Began time.Time     `json:"began_at"` // by the target's clock: another one is another round; zero where none is under way
	For   time.Duration `json:"for_ns"`   // how long it is under way
}

// An arrival counts what comes of one round. A nil one counts nothing.
type arrival struct {
	began       time.Time
	rows, bytes atomic.Int64
}

func (a *arrival) add(rows, bytes int) {
	if a != nil {
		a.rows.Add(int64(rows))
		a.bytes.Add(int64(bytes))
	}
}

// arrives counts what comes of a move's round until end. Of two of one move the later one waits for the fence's row.
func (t *Target) arrives(id directory.MoveID) (a *arrival, end func()) {
	a = &arrival{began: time.Now()}
	t.arrivals.Store(id, a)
	return a, func() { t.arrivals.CompareAndDelete(id, a) }
}

// Coming is what has come of the round of a move that this process takes now. It asks no
// database: whoever copies has use for each connection.
func (t *Target) Coming(id directory.MoveID) Coming {
	v, _ := t.arrivals.Load(id)
	a, ok := v.(*arrival)
	if !ok {
		return Coming{}
	}
	return Coming{Rows: a.rows.Load(), Bytes: a.bytes.Load(), Began: a.began, For: time.Since(a.began)}
}

func (s *Server) coming(_ context.Context, r Request) (any, error) { return s.Target.Coming(r.ID), nil }

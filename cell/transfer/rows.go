package transfer

import (
	"cmp"
	"fmt"
	"net/http"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/infra/telemetry"
)

// rows streams one round. An error after the first byte cannot be told any more:
// the stream then lacks its last frame, and counts for nothing.
func (s *Server) rows(w http.ResponseWriter, r *http.Request) {
	req, err := read(w, r)
	if err != nil {
		telemetry.Problem(w, r, "cell", err)
		return
	}
	if req.Final {
		if err := s.awaitFreeze(r.Context(), req); err != nil {
			telemetry.Problem(w, r, "cell", fence.Refusal(err))
			return
		}
	}
	if req.Since == "" && !req.Final {
		end, err := s.Source.copying()
		if err != nil {
			telemetry.Problem(w, r, "cell", err)
			return
		}
		defer end()
	}
	w.Header().Set("Content-Type", RowsType)
	out := &frames{w: w, within: cmp.Or(s.taken, frameTaken)}
	if _, err := s.Source.Stream(r.Context(), out, req.ID, req.Tenant, req.Since); err != nil {
		if !out.written {
			telemetry.Problem(w, r, "cell", fence.Refusal(err))
			return
		}
		telemetry.RequestFrom(r.Context()).Err = err
		panic(http.ErrAbortHandler) // cut the connection, so that the reader need not guess
	}
}

// frameTaken is how long a reader may take for what is written of a round at once. One that is busy, as with hashing a table that
// it has all of, reads nothing meanwhile; one that hangs must not keep the round's transaction, which holds back
// vacuum and migrations of the cell, for as long as a mover waits for a copy.
const frameTaken = time.Hour

// frames is the answer that a round is written to.
type frames struct {
	w       http.ResponseWriter
	within  time.Duration
	written bool
}

func (f *frames) Write(b []byte) (int, error) {
	f.written = true
	if err := http.NewResponseController(f.w).SetWriteDeadline(time.Now().Add(f.within)); err != nil {
		return 0, fmt.Errorf("bound write: %w", err)
	}
	return f.w.Write(b)
}

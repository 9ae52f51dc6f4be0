package transfer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// lastFrame is where the last frame of a round begins.
func lastFrame(b []byte) (at int) {
	for next := 0; next+5 <= len(b); next += 5 + int(binary.BigEndian.Uint32(b[next+1:])) {
		at = next
	}
	return at
}

// A stalled is a body whose last part comes when it may.
type stalled struct {
	io.Reader
	last io.Reader
	may  func()
}

func (s *stalled) Read(p []byte) (int, error) {
	if n, err := s.Reader.Read(p); err != io.EOF || s.last == nil {
		return n, err
	}
	s.may()
	s.Reader, s.last = s.last, nil
	return s.Reader.Read(p)
}

func (s *stalled) Close() error { return nil }

// TestWhatHasComeIsTold: while a copy or a later round is under way, whoever asks the target hears of the rows
// and bytes that have come, of tables of both forms; of none before and after, nor of another move's.
func TestWhatHasComeIsTold(t *testing.T) {
	t.Parallel()
	const ddl = oneTable + `k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));
		CREATE TYPE app.pair AS (x integer, y integer);
		CREATE TABLE app.other (tenant_id bigint NOT NULL, k integer NOT NULL, v app.pair, PRIMARY KEY (tenant_id, k));`
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	a, b := keyedPairOf(t, ddl, "app.one", "app.other")
	source, err := url.Parse(a.url)
	must(t, err)
	sent, may := make(chan transfer.Totals, 2), make(chan struct{})
	relay := httputil.NewSingleHostReverseProxy(source)
	relay.FlushInterval = -1 // at once
	relay.ModifyResponse = func(r *http.Response) error {
		if !strings.HasSuffix(r.Request.URL.Path, "/rows") || r.StatusCode != http.StatusOK {
			return nil
		}
		all, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		var total transfer.Totals
		at := lastFrame(all)
		if err := json.Unmarshal(all[at+5:], &total); err != nil {
			return err
		}
		sent <- total
		r.Body = &stalled{bytes.NewReader(all[:at]), bytes.NewReader(all[at:]), func() {
			select {
			case <-may:
			case <-ctx.Done():
			}
		}}
		return nil
	}
	slow := httptest.NewServer(relay)
	defer slow.Close()
	coming := func(id directory.MoveID) transfer.Coming {
		t.Helper()
		m := there
		m.ID = id
		c, err := b.Coming(ctx, m)
		must(t, err)
		return c
	}
	must(t, b.Client.Reserve(ctx, there))
	must(t, a.Client.Arm(ctx, there, wait))
	var before time.Time // the round before began
	for round, from := range []int{1, 2001} {
		must(t, a.do(t, mover, 1, `INSERT INTO app.one SELECT 7, n, pg_catalog.repeat('x', 90) FROM pg_catalog.generate_series($1::int, $1::int + 1999) n`, from))
		must(t, a.do(t, mover, 1, `INSERT INTO app.other SELECT 7, n, ROW(n, 1)::app.pair FROM pg_catalog.generate_series($1::int, $1::int + 1999) n`, from))
		if c := coming(there.ID); c != (transfer.Coming{}) {
			t.Errorf("before round %d: got %+v, want nothing", round, c)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := b.Pull(ctx, there, slow.URL, false)
			ended <- err
		}()
		var total transfer.Totals
		select {
		case total = <-sent:
		case err := <-ended:
			t.Fatal(err)
		}
		come := coming(there.ID)
		for come.Bytes < total.Bytes {
			come = coming(there.ID)
		}
		if come.Rows != 4000 || come.Rows != total.Rows || come.Bytes != total.Bytes || come.For <= 0 {
			t.Errorf("round %d: %+v has come, want %+v", round, come, total)
		}
		if have, err := b.Client.Received(ctx, there); err != nil || have.Round != round-1 {
			t.Errorf("while round %d is under way: %+v is stored, %v", round, have, err)
		}
		if c := coming("mv_2"); c != (transfer.Coming{}) {
			t.Errorf("of another move: got %+v, want nothing", c)
		}
		if later := coming(there.ID); !later.Began.Equal(come.Began) || later.For <= come.For || come.Began.Equal(before) {
			t.Errorf("round %d: got %+v, then %+v; the one before began at %v", round, come, later, before)
		}
		before = come.Began
		may <- struct{}{}
		must(t, <-ended)
	}
	if c := coming(there.ID); c != (transfer.Coming{}) {
		t.Errorf("afterwards: got %+v, want nothing", c)
	}
}

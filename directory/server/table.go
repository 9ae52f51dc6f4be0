package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// longestWait bounds a long poll.
const longestWait = time.Minute

// A tableCache keeps the newest snapshot as it is sent: many routers that start
// at once cost one read of the record.
type tableCache struct {
	mu      sync.Mutex
	version directory.Version
	head    directory.Head // another one at the same version: the record was restored
	etag    string
	body    []byte // nil: nothing yet
}

// get is the snapshot of the directory's version now. Who comes while it is read
// waits for it instead of reading too.
func (c *tableCache) get(ctx context.Context, feed directory.Feed) (etag string, body []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.body != nil {
		u, err := feed.Changes(ctx, "", c.version, 0)
		if err == nil && u.Version == c.version && u.Head == c.head {
			return c.etag, c.body, nil
		}
		if err != nil && !errors.Is(err, problem.Gone) {
			return "", nil, err
		}
	}
	u, err := feed.Snapshot(ctx)
	if err != nil {
		return "", nil, err
	}
	if body, err = json.Marshal(u); err != nil {
		return "", nil, err
	}
	c.version, c.head, c.body = u.Version, u.Head, append(body, '\n')
	c.etag = fmt.Sprintf(`"v%d-%x"`, u.Version, u.Head[:8])
	return c.etag, c.body, nil
}

func (s *Server) getTable(w http.ResponseWriter, r *http.Request) error {
	etag, body, err := s.table.get(r.Context(), s.Directory)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Cache-Control", "no-cache") // keep it, and ask before using it
	if matches(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the peer is gone; nobody is left to tell
	return nil
}

// matches reports whether one of the tags in If-None-Match is etag.
func matches(headers []string, etag string) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}

const routerParam = "router"

// acknowledging is the router that asks for changes, "" where none says so.
func acknowledging(r *http.Request) string { return r.URL.Query().Get(routerParam) }

func (s *Server) getChanges(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, _ := strconv.ParseInt(q.Get("since"), 10, 64) // the contract has checked it
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil {
		e := problem.Wrap(problem.Invalid, err, "wait is not a duration")
		e.Fields = []problem.Field{{Pointer: "query/wait", Detail: "must be a duration such as 25s"}}
		return e
	}
	since := directory.Version(n)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.Stopping, cancel)()
	u, err := s.changes(ctx, q, since, min(wait, longestWait))
	if errors.Is(err, context.Canceled) && s.Stopping.Err() != nil && r.Context().Err() == nil {
		u, err = s.changes(r.Context(), q, since, 0)
	}
	if errors.Is(err, directory.ErrLifted) {
		s.metrics.lifted.Inc()
	}
	return answer(w, http.StatusOK, u, err)
}

// changes asks for those of a router that takes part in roll-outs, if it says so.
func (s *Server) changes(ctx context.Context, q url.Values, since directory.Version, wait time.Duration) (directory.Update, error) {
	if s.Rollouts == nil || !q.Has("round") {
		return s.Directory.Changes(ctx, q.Get(routerParam), since, wait)
	}
	has := directory.Report{Rollout: directory.RolloutID(q.Get("rollout"))} // the contract has checked the numbers
	has.Round, _ = strconv.Atoi(q.Get("round"))
	has.Requests, _ = strconv.ParseInt(q.Get("requests"), 10, 64)
	has.Failed, _ = strconv.ParseInt(q.Get("failed"), 10, 64)
	if text := q.Get("refused"); text != "" {
		if err := json.Unmarshal([]byte(text), &has.Refused); err != nil {
			return directory.Update{}, problem.Wrap(problem.Invalid, err, "refused is no refusal of a part")
		}
	}
	return s.Rollouts.Poll(ctx, q.Get(routerParam), since, wait, has)
}

func (s *Server) getWatermark(w http.ResponseWriter, r *http.Request) error {
	m, err := s.Directory.Watermark(r.Context())
	m.Routers = full(m.Routers)
	return answer(w, http.StatusOK, m, err)
}

func (s *Server) getAudit(w http.ResponseWriter, r *http.Request) error {
	from, limit := paging(r)
	read := s.Directory.Audit
	if r.URL.Query().Get("order") == "newest" {
		read = s.Directory.NewestAudit
	}
	lines, err := read(r.Context(), r.URL.Query().Get("subject"), from, limit)
	out := page[directory.AuditEntry]{Items: full(lines)}
	if len(lines) == limit {
		out.Next = strconv.FormatInt(lines[limit-1].ID, 10)
	}
	return answer(w, http.StatusOK, out, err)
}

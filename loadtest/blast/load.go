package blast

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// answerTimeout is what a client waits for.
const answerTimeout = 35 * time.Second

// An outcome is what one window's requests to one cell came to.
type outcome struct {
	sent, good, shed, bad int // good: from the right cell; shed: 503, or the tenant's share 429, with Retry-After; bad: all else
	useful                int // good within usefulWithin, whenever it was sent
	took                  []time.Duration
	why                   string // of the first that was bad
	firstGood, fastFail   time.Duration
}

const (
	usefulWithin = time.Second
	fastWithin   = 20 * time.Millisecond
)

// A load is requests to one cell over connections of its own, each at its own
// even pace whatever the answers take: a request's time counts from when it was to
// be sent.
type load struct {
	router string
	cell   string
	conns  int
	rate   float64 // of all connections, each second
	skips  bool    // a connection that is late leaves out what it missed

	mu    sync.Mutex
	total int // requests ever sent
	epoch int // of the window
	began time.Time
	now   outcome
}

// window ends the window before and gives its outcome. What was sent in it and
// is not answered yet counts in no window, unless it is useful in the next.
func (l *load) window() outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	past := l.now
	l.now = outcome{}
	l.epoch++
	l.began = time.Now()
	return past
}

// sent is how many requests were ever sent.
func (l *load) sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// run sends until ctx ends.
func (l *load) run(ctx context.Context) {
	l.window()
	var all sync.WaitGroup
	for i := range l.conns {
		all.Go(func() { l.connection(ctx, i) })
	}
	all.Wait()
}

// connection is one connection's requests; a broken one is made again.
func (l *load) connection(ctx context.Context, n int) {
	pace := time.Duration(float64(time.Second) * float64(l.conns) / l.rate)
	due := time.Now().Add(pace * time.Duration(n) / time.Duration(l.conns))
	request := []byte("GET /x HTTP/1.1\r\nHost: " + l.cell + "." + baseDomain + "\r\n\r\n")
	timer := time.NewTimer(0)
	defer timer.Stop()
	c := &client{router: l.router}
	defer c.close()
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	for ; ; due = due.Add(pace) {
		if l.skips && time.Since(due) > pace {
			due = time.Now()
		}
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
		l.total++
		epoch := l.epoch
		l.mu.Unlock()
		status, body, again, err := c.ask(ctx, request)
		if ctx.Err() != nil {
			return
		}
		l.note(epoch, time.Since(due), status, body, again, err)
	}
}

func (l *load) note(epoch int, took time.Duration, status int, body string, again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.now
	failed := err != nil || status != http.StatusOK || body != l.cell
	if !failed && took <= usefulWithin {
		o.useful++ // where it arrives: else each window would lose those under way at its end
	}
	if epoch != l.epoch && (!failed || l.skips) {
		return // an error to a cell that is well counts, however late it comes
	}
	o.sent++
	o.took = append(o.took, took)
	switch {
	case err == nil && status == http.StatusOK && body == l.cell:
		o.good++
		if o.firstGood == 0 {
			o.firstGood = time.Since(l.began)
		}
	case err == nil && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && again:
		o.shed++
		if o.fastFail == 0 && took <= fastWithin && status == http.StatusServiceUnavailable {
			o.fastFail = time.Since(l.began)
		}
	default:
		o.bad++
		if o.why == "" {
			o.why = fmt.Sprintf("%d %.80q %v", status, body, err)
		}
	}
}

// A client is one connection to the router.
type client struct {
	router string
	source net.IP // nil is any
	mu     sync.Mutex
	nc     net.Conn
	from   *bufio.Reader
	ended  bool
}

// ask sends one request and reads its answer.
func (c *client) ask(ctx context.Context, request []byte) (status int, body string, again bool, err error) {
	if c.nc == nil {
		d := net.Dialer{Timeout: 5 * time.Second}
		if c.source != nil {
			d.LocalAddr = &net.TCPAddr{IP: c.source}
		}
		nc, err := d.DialContext(ctx, "tcp", c.router)
		if err != nil {
			return 0, "", false, err
		}
		c.mu.Lock()
		c.nc, c.from = nc, bufio.NewReaderSize(nc, 1024)
		ended := c.ended
		c.mu.Unlock()
		if ended {
			return 0, "", false, context.Canceled
		}
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	_ = c.nc.SetDeadline(time.Now().Add(answerTimeout)) // reading reports it
	if _, err := c.nc.Write(request); err != nil {
		return 0, "", false, err
	}
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		return 0, "", false, err
	}
	defer resp.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, resp.Body)
	if resp.Close {
		c.close()
	}
	return resp.StatusCode, b.String(), resp.Header.Get("Retry-After") != "", err
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc = nil
	}
}

// abort ends what the client waits for.
func (c *client) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.nc != nil {
		_ = c.nc.Close()
	}
}

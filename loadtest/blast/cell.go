package blast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// Part is the hidden subcommand that is one cell of the benchmark.
const Part = "blast-cell"

// What a cell does with requests; parts of the path /mode/ at its second listener.
const (
	well    = "well"    // answers with its name
	slow    = "slow"    // the same, slowDelay later
	garbage = "garbage" // answers what is not HTTP
	cut     = "cut"     // resets in the middle of the body
	interim = "interim" // answers 103 without end
	busy    = "busy"    // works on width requests at once, each for work
)

const (
	slowDelay = 200 * time.Millisecond
	width     = 4
	work      = 20 * time.Millisecond // so that busy is 200 requests a second
)

// A cell answers as cells do and knows no tenant. It is a process of its own, so that it
// can be killed and stopped.
type cell struct {
	name   string
	mode   atomic.Value // string
	places chan struct{}
}

// RunPart is that process: NAME, its address, and that of who tells it its mode.
func RunPart(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("not for people; run `loadtest blast`")
	}
	c := &cell{name: args[0], places: make(chan struct{}, width)}
	c.mode.Store(well)
	told := http.NewServeMux()
	told.HandleFunc("POST /mode/{mode}", func(_ http.ResponseWriter, r *http.Request) { c.mode.Store(r.PathValue("mode")) })
	// Its mode is for OPTIONS, too: what answers no request answers no probe.
	ends := make(chan error, 2)
	for i, s := range []*http.Server{
		{Addr: args[1], Handler: c, ReadHeaderTimeout: time.Minute, DisableGeneralOptionsHandler: true},
		{Addr: args[2], Handler: told, ReadHeaderTimeout: time.Minute},
	} {
		ln, err := net.Listen("tcp", args[1+i])
		if err != nil {
			return fmt.Errorf("start cell %s: %w", c.name, err)
		}
		go func() { ends <- s.Serve(ln) }() // ends by Close
		defer s.Close()
	}
	select {
	case err := <-ends:
		return err
	case <-ctx.Done():
		return nil
	}
}

// ServeHTTP implements http.Handler.
func (c *cell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch c.mode.Load() {
	case slow:
		loadtest.Pause(r.Context(), slowDelay)
	case busy:
		select {
		case c.places <- struct{}{}:
			loadtest.Pause(r.Context(), work)
			<-c.places
		case <-r.Context().Done():
			return
		}
	case garbage:
		raw(w, "\x00\x01\x02 this is not HTTP \xff\r\n\r\n", 1)
		return
	case cut:
		raw(w, "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n"+strings.Repeat("x", 100), 1)
		return
	case interim:
		raw(w, "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", 1<<30)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, c.name)
}

// raw says text n times, or until nobody listens, and resets the connection.
func raw(w http.ResponseWriter, text string, n int) {
	nc, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second)) // the write reports it
	for range n {
		if _, err := io.WriteString(nc, text); err != nil {
			return
		}
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // only makes the end a reset
	}
}

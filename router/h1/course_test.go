package h1

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// courses decides by the path, and flies what says nothing else.
type courses struct {
	*directly
	deepest *atomic.Int64 // stack that a Take was called on
}

// Take implements Direct.
func (d courses) Take(f *Flight) Course {
	if n := int64(runtime.Callers(0, make([]uintptr, 200))); n > d.deepest.Load() {
		d.deepest.Store(n)
	}
	target := strings.Clone(f.Request.Target())
	f.Reply = append(f.Reply[:0], Field{Name: "X-Direct", Value: target})
	switch {
	case strings.HasPrefix(target, "/refused"):
		f.Status, f.Text = http.StatusServiceUnavailable, []byte("no to "+target)
		return Refused
	case strings.HasPrefix(target, "/waits"):
		f.To = d.up
		return Waits
	}
	return d.directly.Take(f)
}

// coursing is flown with courses, whose handler says what it has taken over.
func coursing(t *testing.T, loops int) (*Server, courses, string) {
	var of courses
	s, _, addr := flown(t, loops, cellOfFlights, func(s *Server) {
		next := s.Handler
		of = courses{s.Direct.(*directly), &atomic.Int64{}}
		s.Direct = of
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f := TakenOver(w); f != nil {
				w.Header().Set("X-Taken", "over")
				if r.URL.Path == "/waits/in/vain" {
					http.Error(w, "in vain", http.StatusServiceUnavailable)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	return s, of, addr
}

// TestARefusalIsAnAnswer: what Direct refuses is answered without the handler, with or
// without a body, and the connection goes on.
func TestARefusalIsAnAnswer(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		s, d, addr := coursing(t, loops)
		c := dial(t, addr)
		c.send("POST /refused/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" +
			"HEAD /refused/2 HTTP/1.1\r\nHost: a\r\n\r\n" +
			"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
		for i, want := range []string{"no to /refused/1", "", `GET /a ""`} {
			method := []string{"POST", "HEAD", "GET"}[i]
			status, body, resp, err := c.answer(method)
			if err != nil || body != want || i < 2 && status != http.StatusServiceUnavailable || i == 1 && resp.ContentLength != 16 {
				t.Errorf("answer %d: got %d %q (%v), %v", i, status, body, resp, err)
			}
			if i < 2 && resp.Header.Get("X-Direct") != fmt.Sprint("/refused/", i+1) {
				t.Errorf("answer %d: got %v", i, resp.Header)
			}
		}
		s.Retire()
		c.send("GET /refused/3 HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := c.ends(); !strings.Contains(got, "Connection: close\r\n") || !strings.HasSuffix(got, "\r\n\r\nno to /refused/3") {
			t.Errorf("the last one: got %q", got)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if want := "[/refused/1 503 16 <nil> /refused/2 503 16 <nil> /a 200 9 <nil> /refused/3 503 16 <nil>]"; fmt.Sprint(d.done) != want {
			t.Errorf("told %v, want %s", d.done, want)
		}
	})
}

// TestTheHandlerGoesOnWithWhatWaits, or answers by itself.
func TestTheHandlerGoesOnWithWhatWaits(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		_, d, addr := coursing(t, loops)
		c := dial(t, addr)
		for range 2 {
			for path, want := range map[string]string{"/waits/1": `POST /waits/1 "hello"`, "/waits/in/vain": "in vain\n", "/a": `POST /a "hello"`} {
				c.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
				_, body, resp, err := c.answer("POST")
				if err != nil || body != want || (resp.Header.Get("X-Taken") == "over") != strings.HasPrefix(path, "/waits") {
					t.Errorf("%s: got %q, %v, %v", path, body, resp, err)
				}
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, one := range d.done {
			if strings.HasPrefix(one, "/waits") {
				t.Errorf("told of what the handler took over: %s", one)
			}
		}
	})
}

// TestWhatIsWaitedForIsNotTheCellsTime: the time that a cell is said to have taken begins
// when the handler that waited sends the request.
func TestWhatIsWaitedForIsNotTheCellsTime(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		var told atomic.Int64
		_, _, addr := flown(t, loops, cellOfFlights, func(s *Server) {
			d := s.Direct.(*directly)
			s.Direct = courses{d, &atomic.Int64{}}
			s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				waited := time.Now()
				err := d.up.Forward(w, r, &Outgoing{Answered: func(took time.Duration, _ bool) {
					told.Add(1)
					if most := time.Since(waited); took > most {
						t.Errorf("the cell is said to have taken %v of %v", took, most)
					}
				}})
				if err != nil {
					t.Error(err)
				}
			})
		})
		c := dial(t, addr)
		c.send("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
		c.until("GET /waits \"\"")
		if told.Load() != 1 {
			t.Errorf("told %d times, want once", told.Load())
		}
	})
}

// TestManyRefusalsTakeTurns: who sends many requests at once that are refused has no
// deeper stack for it, and others are served meanwhile.
func TestManyRefusalsTakeTurns(t *testing.T) {
	t.Parallel()
	const many = 20_000
	s, d, addr := coursing(t, 1)
	other, c := dial(t, addr), dial(t, addr)
	other.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
	other.until("GET /first \"\"")
	go c.send(strings.Repeat("GET /refused HTTP/1.1\r\nHost: a\r\n\r\n", many) + "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	for i := range many {
		if i == many/100 {
			other.send("GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		if _, body, _, err := c.answer("GET"); err != nil || body != "no to /refused" {
			t.Fatalf("answer %d: got %q, %v", i, body, err)
		}
	}
	if got := c.ends(); !strings.Contains(got, "GET /last") {
		t.Errorf("the last one: got %q", got)
	}
	if got := other.ends(); !strings.Contains(got, "GET /second") {
		t.Errorf("the other one: got %q", got)
	}
	if n := d.deepest.Load(); n > 100 {
		t.Errorf("a stack of %d calls", n)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCanariesOnEachCourse: connections whose requests take all courses, in any order, get
// their own answers. In loops they leave for goroutines and come back all the time.
func TestCanariesOnEachCourse(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		_, _, addr := coursing(t, loops)
		var all sync.WaitGroup
		for i := range 8 {
			c := dial(t, addr)
			all.Go(func() {
				for j := range 200 {
					path := fmt.Sprint([]string{"/a", "/b", "/refused", "/waits", "/handler"}[rand.IntN(5)], "/", i, "/", j)
					want := fmt.Sprintf("GET %s %q", path, "")
					if strings.HasPrefix(path, "/refused") {
						want = "no to " + path
					}
					c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
					if _, body, _, err := c.answer("GET"); err != nil || body != want {
						t.Errorf("%s: got %q, %v", path, body, err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

package h1

import (
	"net/url"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// naps is where connections wait that have been idle for a while. They have no
// goroutine and nothing that only an exchange needs: one epoll waits for all of
// them, itself watched by the scheduler's poller, so that no thread waits.
//
// A nap ends once, by who takes the connection out of by: the goroutine that
// looks for bytes and for the time, or who closes the connection from outside,
// first the connection and then the nap, as a descriptor that is closed is silent.
type naps struct {
	mu    sync.Mutex
	epoll *watched // nil before the first nap
	over  bool     // no more
	by    map[uint64]*conn
	last  uint64 // the newest: each nap has a number of its own, which its event comes with

	oldest, newest *conn // who naps, in the order of the naps: all last Server.Idle

	fresh  int // naps since the last tidying
	tidies *time.Timer
	tidied time.Time
}

// What connections had before they nap, stacks above all, goes back to the kernel after a
// collection, and where little is asked there is none for two minutes. So there is one soon
// after many began to nap: as many as half of those who do.
const (
	tidyFrom  = 1000             // naps that are worth one
	tidyAfter = time.Second      // without another one
	tidyEvery = 30 * time.Second // at most
)

// canNap says that naps are to be had here.
const canNap = true

// leave ends the goroutine's part of the connection: in a loop or with a nap, after which
// the connection is another's, or with its end.
func (c *conn) leave() {
	for c.tired {
		c.tired = false
		c.shed()
		if c.home() || c.nap() {
			return
		}
		c.goOn() // it has to wait awake
	}
	c.end()
}

// shed drops what a connection that waits does not need.
func (c *conn) shed() {
	c.release()
	c.secured, c.request, c.reader, c.values, c.url = nil, nil, nil, nil, url.URL{}
	c.w = writer{c: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch != nil {
		c.watch.Stop() // one that fires all the same finds that nobody wants it
		c.watch = nil
	}
}

// goOn is serveOn after shed. Until the next request, the connection stays awake:
// a part of a TLS record puts off its end no more than once.
func (c *conn) goOn() {
	c.wakeful = true
	c.setTLS()
	c.serveOn()
}

// nap lets the connection wait without a goroutine; false where it cannot. Whole
// records wait nowhere: a read that found none has just ended by its deadline, and
// a part of one waits for bytes of the socket as everybody else.
func (c *conn) nap() bool {
	raw := c.rawSocket()
	return raw != nil && c.srv.naps.begin(c, raw)
}

// begin has the epoll wait for c, whose socket is raw's; false where it cannot.
func (n *naps) begin(c *conn, raw syscall.RawConn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over || n.open() != nil {
		return false
	}
	number, op := n.last+1, syscall.EPOLL_CTL_MOD
	if !c.napped {
		op = syscall.EPOLL_CTL_ADD
	}
	var err error
	cerr := raw.Control(func(fd uintptr) {
		e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(number), Pad: int32(number >> 32)} //nolint:gosec // halves of the number
		err = syscall.EpollCtl(n.epoll.fd, op, int(fd), &e)
	})
	if cerr != nil || err != nil { // closed, or more than the kernel watches
		return false
	}
	c.napped, c.number, c.air.due = true, number, time.Now().Add(c.srv.Idle)
	n.last = number
	if n.add(c); n.oldest == c {
		_ = n.epoll.file.SetReadDeadline(c.air.due) // newWatched has seen that it works
	}
	n.begun()
	return true
}

// begun has tidy called, where many naps have begun, when no other has for a while.
func (n *naps) begun() {
	if n.fresh++; n.fresh < max(tidyFrom, len(n.by)/2) {
		return
	}
	after := max(tidyAfter, time.Until(n.tidied.Add(tidyEvery)))
	if n.tidies == nil {
		n.tidies = time.AfterFunc(after, n.tidy)
		return
	}
	n.tidies.Reset(after) // where tidy has begun it is called once more
}

// tidy gives the kernel back what is not used any more.
func (n *naps) tidy() {
	debug.FreeOSMemory()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fresh, n.tidied = 0, time.Now()
}

func (n *naps) add(c *conn) {
	n.by[c.number] = c
	if c.older = n.newest; c.older != nil {
		c.older.newer = c
	} else {
		n.oldest = c
	}
	n.newest = c
}

func (n *naps) remove(c *conn) {
	delete(n.by, c.number)
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		n.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		n.newest = c.older
	}
	c.older, c.newer = nil, nil
}

// open makes the epoll, once.
func (n *naps) open() (err error) {
	if n.epoll != nil {
		return nil
	}
	if n.epoll, err = newWatched("naps"); err != nil {
		return err
	}
	n.by = map[uint64]*conn{}
	go n.run(n.epoll.raw) // ends with the server, which closes the epoll
	return nil
}

// run ends naps: when bytes or an end come, and when they have lasted too long.
func (n *naps) run(raw syscall.RawConn) {
	var count int
	events := make([]syscall.EpollEvent, 128)
	poll := func(fd uintptr) bool {
		count, _ = syscall.EpollWait(int(fd), events, 0) // nothing is interrupted that does not wait
		return count > 0
	}
	for {
		count = 0
		switch err := raw.Read(poll); {
		case err == nil:
		case timedOut(err):
			n.overdue()
		default:
			return // closed
		}
		for _, e := range events[:max(count, 0)] {
			if c := n.take(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32); c != nil { //nolint:gosec // halves of the number
				go c.rise() // ends with the connection or its next nap, as what serves it first
			}
		}
	}
}

// take ends a nap; nil where it has ended.
func (n *naps) take(number uint64) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.by[number]
	if c != nil {
		n.remove(c)
	}
	return c
}

// overdue ends connections that have been idle for too long, and sees when the
// next one will be.
func (n *naps) overdue() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, next := time.Now(), time.Time{}
	for c := n.oldest; c != nil; c = n.oldest {
		if now.Before(c.air.due) {
			next = c.air.due
			break
		}
		n.remove(c)
		go c.end() // which may have to wait for the client to take a last record
	}
	if !n.over {
		_ = n.epoll.file.SetReadDeadline(next) // as above
	}
}

// rise goes on after a nap.
func (c *conn) rise() {
	defer c.leave()
	c.goOn()
}

// rouse ends a nap for who has closed the connection.
func (n *naps) rouse(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by[c.number] == c {
		n.remove(c)
		go c.end()
	}
}

// stop lets nobody nap any more. Who naps is roused by who closes connections.
func (n *naps) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	if n.tidies != nil {
		n.tidies.Stop() // one that runs ends by itself
	}
	if n.epoll != nil {
		_ = n.epoll.file.Close() // run reports it
	}
}

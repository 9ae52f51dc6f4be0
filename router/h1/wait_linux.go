package h1

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// How a loop waits. A goroutine that waits in epoll_wait keeps its processor from the
// others, and from the scheduler's own poller, until the runtime's watcher sees it: that
// takes up to ten milliseconds. A wait by the scheduler's poller costs three calls more.
// So a loop keeps the processor while events are near, and gives it away after keepFor.
type waiting struct {
	epoll *watched
	look  func(uintptr) bool
	found int       // by look
	eager bool      // events are likely to be there already
	alone bool      // there is one processor: nobody else runs while the loop keeps it
	now   time.Time // when the loop looked at the clock last
	gave  time.Time // when it has given the processor away
	wakes time.Time // the epoll's deadline
}

const keepFor = time.Millisecond

// wait waits for events, until the next sweep at the latest. Where the wait before had
// several, or found some there, more are likely: then it looks before it waits.
func (lp *loop) wait() int {
	if lp.kept > 0 {
		runtime.Gosched()
		return lp.glance()
	}
	busy := len(lp.again) > 0
	if lp.now.Sub(lp.gave) >= keepFor && !busy {
		return lp.give()
	}
	if lp.eager || busy {
		if n := lp.glance(); n > 0 {
			return n
		}
	}
	if busy || lp.alone { // else it wakes a processor that is idle, each time, to look for work that is not there
		runtime.Gosched()
	}
	if busy {
		return 0
	}
	n, err := syscall.EpollWait(lp.epoll.fd, lp.events, int(keepFor/time.Millisecond))
	if err != nil {
		return 0
	}
	lp.eager = n > 1
	return n
}

// give waits as every goroutine does. Where events are always there it finds some without
// a wait; the others have their turn before.
func (lp *loop) give() int {
	runtime.Gosched()
	until := lp.swept.Add(sweepEvery)
	if len(lp.conns) == 0 {
		until = until.Add(time.Second)
	}
	if !until.Equal(lp.wakes) {
		lp.wakes = until
		_ = lp.epoll.file.SetReadDeadline(until) // newWatched has seen that it works
	}
	lp.found = 0
	_ = lp.epoll.raw.Read(lp.look) // fails at the deadline: nothing was found
	lp.gave = time.Now()
	lp.eager = lp.found > 1
	return lp.found
}

// glance takes the events that are there, behind those that were kept.
func (lp *loop) glance() int {
	room := lp.events[lp.kept:]
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(lp.epoll.fd), uintptr(unsafe.Pointer(unsafe.SliceData(room))), uintptr(len(room)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n) //nolint:gosec // at most len(room)
}

package h1

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A bore is a tunnel between two ends, in time that is not real.
type bore struct {
	t            *testing.T
	client, cell net.Conn
	x            *tunnel
	over         chan struct{} // closed when the tunnel has ended
}

func newBore(t *testing.T, early ...Ending) *bore {
	client, near := net.Pipe()
	cell, far := net.Pipe()
	return boreOf(t, client, near, cell, far, early...)
}

func boreOf(t *testing.T, client, near, cell, far net.Conn, early ...Ending) *bore {
	b := &bore{t, client, cell, newTunnel(near, far, 10*time.Minute), make(chan struct{})}
	for _, e := range early {
		b.x.end(e)
	}
	b.x.start()
	go func() { // ends with the test's two ends
		defer close(b.over)
		b.x.run(nil, make([]byte, 1000), make([]byte, 1000))
		_ = errors.Join(near.Close(), far.Close()) // as who has the connections does
	}()
	return b
}

// says sends from one end; whether it is taken shows at the other.
func (b *bore) says(end net.Conn, s string) {
	b.t.Helper()
	if _, err := io.WriteString(end, s); err != nil {
		b.t.Logf("send: %v", err)
	}
}

// goesOn says first, and then the same again and again, until the tunnel has ended.
func (b *bore) goesOn(end net.Conn, first, again string) {
	for _, err := io.WriteString(end, first); err == nil; _, err = io.WriteString(end, again) {
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *bore) hears(end net.Conn, want string) {
	b.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(end, got); err != nil || string(got) != want {
		b.t.Errorf("got %q, %v; want %q", got[:n], err, want)
	}
}

// ends wants the client's connection to end, with nothing more, so long after began.
func (b *bore) ends(began time.Time, want time.Duration) {
	b.t.Helper()
	if rest, err := io.ReadAll(b.client); len(rest) > 0 || err != nil {
		b.t.Errorf("got %q, %v, want the end", rest, err)
	}
	<-b.over
	if took := time.Since(began); took != want {
		b.t.Errorf("it ended after %v, want %v", took, want)
	}
}

// TestATunnelIsToldToEnd: its client reads why, between two frames, and has a while to say
// goodbye; what the cell says is never cut by that, nor followed by more of it.
func TestATunnelIsToldToEnd(t *testing.T) {
	t.Parallel()
	const one, two, goodbye = "\x81\x03one", "\x81\x03two", "\x88\x80mask"
	moved := Ending{1012, "moved"}
	const told = "\x88\x07\x03\xf4moved"
	for name, test := range map[string]func(b *bore, began time.Time){
		"between two frames": func(b *bore, began time.Time) {
			b.says(b.cell, one)
			b.hears(b.client, one)
			b.x.end(moved)
			b.x.end(Leaving) // the first word counts
			b.hears(b.client, told)
			b.says(b.client, goodbye)
			b.ends(began, 0)
		},
		"in a frame": func(b *bore, began time.Time) {
			b.says(b.cell, one[:3])
			b.hears(b.client, one[:3])
			b.x.end(moved)
			go b.says(b.cell, one[3:]+two)
			b.hears(b.client, one[3:]+told)
			b.says(b.client, goodbye)
			b.ends(began, 0)
		},
		"in a frame's head": func(b *bore, began time.Time) {
			b.says(b.cell, one[:1])
			b.hears(b.client, one[:1])
			b.x.end(moved)
			time.Sleep(frameWait / 2)
			go b.says(b.cell, one[1:])
			b.hears(b.client, one[1:]+told)
			b.says(b.client, goodbye)
			b.ends(began, frameWait/2)
		},
		"in a frame whose rest does not come": func(b *bore, began time.Time) {
			b.says(b.cell, one[:3])
			b.hears(b.client, one[:3])
			b.x.end(moved)
			b.ends(began, frameWait)
		},
		"in a frame that has no end": func(b *bore, _ time.Time) {
			go b.goesOn(b.cell, "\x82\x7f\x7f-------", "more")
			b.hears(b.client, "\x82\x7f\x7f-------more")
			began := time.Now()
			b.x.end(moved)
			if rest, err := io.ReadAll(b.client); err != nil || strings.Trim(string(rest), "more") != "" {
				b.t.Errorf("got %q, %v", rest, err)
			}
			b.ends(began, frameWait)
		},
		"a client that says no goodbye": func(b *bore, began time.Time) {
			b.x.end(moved)
			b.hears(b.client, told)
			b.ends(began, frameWait+closeWait)
		},
		"a client that only talks on": func(b *bore, began time.Time) {
			b.x.end(moved)
			b.hears(b.client, told)
			go b.goesOn(b.client, "\x81\x80mask", "\x81\x80mask")
			b.ends(began, frameWait+closeWait)
		},
		"a client that reads nothing": func(b *bore, began time.Time) {
			b.says(b.cell, one)
			b.x.end(moved)
			<-b.over
			b.ends(began, frameWait)
		},
		"a client that has left": func(b *bore, _ time.Time) {
			_ = b.client.Close()
			b.x.end(moved)
			<-b.over
		},
		"a cell that takes nothing": func(b *bore, began time.Time) {
			b.says(b.client, "\x81\x80mask")
			synctest.Wait()
			b.x.end(moved)
			b.hears(b.client, told)
			b.says(b.client, goodbye)
			b.ends(began, 0)
		},
		"the cell hears no more": func(b *bore, began time.Time) {
			b.x.end(moved)
			b.hears(b.client, told)
			b.says(b.client, "\x81\x80mask"+goodbye)
			b.ends(began, 0)
			if got, err := io.ReadAll(b.cell); len(got) > 0 || err != nil {
				b.t.Errorf("the cell got %q, %v", got, err)
			}
		},
		"the cell has said goodbye": func(b *bore, began time.Time) {
			b.says(b.cell, "\x88\x02\x03\xe8")
			b.hears(b.client, "\x88\x02\x03\xe8")
			b.x.end(moved)
			b.says(b.client, goodbye)
			b.ends(began, 0)
		},
		"the client has said goodbye": func(b *bore, began time.Time) {
			b.says(b.client, goodbye)
			b.hears(b.cell, goodbye)
			b.x.end(moved)
			b.hears(b.client, told)
			b.ends(began, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBore(t)
				synctest.Wait()
				test(b, time.Now())
				_ = errors.Join(b.client.Close(), b.cell.Close())
				<-b.over
				time.Sleep(time.Second) // who goes on says so once more
			})
		})
	}
	t.Run("before it has begun", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBore(t, moved)
			b.hears(b.client, told)
			b.says(b.client, goodbye)
			b.ends(time.Now(), 0)
			_ = errors.Join(b.client.Close(), b.cell.Close())
		})
	})
}

// TestATunnelGoesOn while either side says something, also where the other is silent for long.
func TestATunnelGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBore(t)
		for range 10 {
			time.Sleep(b.x.idle - time.Second)
			b.says(b.cell, "\x81\x00")
			b.hears(b.client, "\x81\x00")
		}
		b.ends(time.Now(), b.x.idle)
		_ = errors.Join(b.client.Close(), b.cell.Close())
	})
}

package streams

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/router/h1"
)

// TestATunnelSaysWhyItEnds: between two frames of the cell, and then it waits for the
// client's goodbye, for a while.
func TestATunnelSaysWhyItEnds(t *testing.T) {
	t.Parallel()
	const one, two, goodbye = "\x81\x03one", "\x81\x03two", "\x88\x80mask"
	const told = "\x88\x07\x03\xf4moved"
	for name, tt := range map[string]struct {
		before, after, client string        // what the cell says before and after the telling, and the client after it
		want                  string        // what the client hears
		took                  time.Duration // from the telling on
	}{
		"between two frames":                  {one, two, goodbye, one + told, 0},
		"in a frame":                          {one[:3], one[3:] + two, goodbye, one + told, 0},
		"in a frame whose rest does not come": {one[:3], "", "", one[:3], frameWait},
		"a client that says no goodbye":       {one, "", "", one + told, closeWait},
		"the cell has said goodbye":           {"\x88\x00", "", goodbye, "\x88\x00", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cell, far := net.Pipe()
				client, near := net.Pipe()
				x := NewTunnel(far, near)
				done := 0
				x.Done(func() { done++ })
				ends := make(chan error, 2)
				go func() { _, err := io.Copy(near, x); ends <- err }() // as ReverseProxy does, whose end either is
				go func() { _, err := io.Copy(x, near); ends <- err }()
				heard := make(chan string)
				go func() { b, _ := io.ReadAll(client); heard <- string(b) }()
				_, _ = io.WriteString(cell, tt.before)
				synctest.Wait()
				began := time.Now()
				x.End(h1.Ending{Code: 1012, Reason: "moved"})
				x.End(h1.Leaving) // the first word counts
				_, _ = io.WriteString(cell, tt.after)
				synctest.Wait()
				_, _ = io.WriteString(client, "\x81\x80mask"+tt.client) // the cell does not hear it
				if err := <-ends; err == nil {
					t.Error("it ended without an error: ReverseProxy would wait for the client")
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("it ended after %v, want %v", took, tt.took)
				}
				_ = errors.Join(x.Close(), x.Close(), near.Close())
				if got := <-heard; got != tt.want {
					t.Errorf("the client heard %q, want %q", got, tt.want)
				}
				if rest, err := io.ReadAll(cell); len(rest) > 0 || err != nil || done != 1 {
					t.Errorf("the cell heard %q, %v; done was called %d times", rest, err, done)
				}
				<-ends
				_ = errors.Join(client.Close(), cell.Close())
			})
		})
	}
}

// TestATunnelLetsNobodyKeepIt: it ends also where ReverseProxy would wait for the client, which
// says nothing, or takes nothing.
func TestATunnelLetsNobodyKeepIt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cell func(cell net.Conn)
		told bool
		took time.Duration
	}{
		"the cell has left":           {func(cell net.Conn) { _ = cell.Close() }, true, frameWait},
		"a client that takes nothing": {func(cell net.Conn) { _, _ = io.WriteString(cell, "\x81\x03one") }, true, frameWait},
		"nobody says anything":        {func(net.Conn) {}, false, idle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cell, far := net.Pipe()
				client, near := net.Pipe()
				x := NewTunnel(far, near)
				ends := make(chan error, 2)
				go func() { _, err := io.Copy(near, x); ends <- err }() // as ReverseProxy does, and waits for both
				go func() { _, err := io.Copy(x, near); ends <- err }()
				tt.cell(cell)
				synctest.Wait()
				began := time.Now()
				if tt.told {
					x.End(h1.Leaving)
				}
				<-ends
				<-ends
				if took := time.Since(began); took != tt.took {
					t.Errorf("it ended after %v, want %v", took, tt.took)
				}
				_ = errors.Join(x.Close(), near.Close(), client.Close(), cell.Close())
			})
		})
	}
}

// A touched connection notes whether it was given a deadline.
type touched struct{ it bool }

func (c *touched) SetReadDeadline(time.Time) error  { c.it = true; return nil }
func (c *touched) SetWriteDeadline(time.Time) error { c.it = true; return nil }

// TestATunnelThatIsOverLeavesTheClientAlone: where ReverseProxy refuses the cell's 101, the
// connection is another request's by then.
func TestATunnelThatIsOverLeavesTheClientAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cell, far := net.Pipe()
		client := &touched{}
		x := NewTunnel(far, client)
		_ = x.Close()
		_, _ = x.Write([]byte("late")) // starts its time again
		time.Sleep(2 * idle)
		synctest.Wait()
		if client.it {
			t.Error("it has touched the client's connection")
		}
		_ = cell.Close()
	})
}

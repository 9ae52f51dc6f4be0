package front

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A wire keeps what is written, write by write.
type wire struct {
	net.Conn
	writes [][]byte
	err    error
	closed bool
}

func (w *wire) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) Close() error                     { w.closed = true; return nil }

// aFrame is one of a kind, with n bytes.
func aFrame(kind, flags byte, stream, n int) []byte {
	return append([]byte{0, byte(n >> 8), byte(n), kind, flags, 0, 0, 0, byte(stream)}, make([]byte, n)...)
}

// TestHeadsGoWithWhatFollows: the head of an answer is no write of its own where more
// comes, is written after a moment where nothing does, and keeps its place.
func TestHeadsGoWithWhatFollows(t *testing.T) {
	head, body, last := aFrame(frameHeaders, 4, 1, 40), aFrame(frameData, flagEndStream, 1, 100), aFrame(frameHeaders, 4|flagEndStream, 1, 40)
	other, large := aFrame(frameHeaders, 4, 3, 40), aFrame(frameData, 0, 1, 9<<10)
	for name, tt := range map[string]struct {
		writes [][]byte
		want   [][]byte
	}{
		"a body":                    {[][]byte{head, body}, [][]byte{slices.Concat(head, body)}},
		"none":                      {[][]byte{last}, [][]byte{last}},
		"two heads":                 {[][]byte{head, other, body}, [][]byte{slices.Concat(head, other, body)}},
		"nothing":                   {[][]byte{head}, [][]byte{head}},
		"a large part of a body":    {[][]byte{head, large}, [][]byte{head, large}},
		"a head in pieces":          {[][]byte{head[:20], head[20:]}, [][]byte{head[:20], head[20:]}},
		"a head and a part of one":  {[][]byte{slices.Concat(head, other[:9])}, [][]byte{slices.Concat(head, other[:9])}},
		"a head that is part of it": {[][]byte{slices.Concat(head, body)}, [][]byte{slices.Concat(head, body)}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &wire{}
			g := (&Server{}).guard(w, nil)
			for _, p := range tt.writes {
				if n, err := g.Write(p); n != len(p) || err != nil {
					t.Errorf("%s: %d, %v", name, n, err)
				}
			}
			time.Sleep(2 * headsWait)
			synctest.Wait()
			if !slices.EqualFunc(w.writes, tt.want, bytes.Equal) || w.closed {
				t.Errorf("%s: got %d writes of %d bytes, want %d", name, len(w.writes), len(slices.Concat(w.writes...)), len(tt.want))
			}
		})
	}
}

// TestHeadsThatCannotBeWritten end the connection: their writer has gone on.
func TestHeadsThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{err: errors.New("broken")}
		g := (&Server{}).guard(w, nil)
		if _, err := g.Write(aFrame(frameHeaders, 4, 1, 40)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * headsWait)
		synctest.Wait()
		if !w.closed {
			t.Error("the connection is open")
		}
		if _, err := g.Write(aFrame(frameData, flagEndStream, 1, 100)); !errors.Is(err, w.err) {
			t.Errorf("got %v", err)
		}
	})
}

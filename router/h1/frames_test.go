package h1

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// framed is a frame with a payload of n bytes, whose length is written in size bytes
// behind the first two.
func framed(first byte, masked bool, size, n int) []byte {
	second := byte(n)
	switch size {
	case 2:
		second = 126
	case 8:
		second = 127
	}
	if masked {
		second |= 0x80
	}
	out := []byte{first, second}
	switch size {
	case 2:
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	case 8:
		out = binary.BigEndian.AppendUint64(out, uint64(n))
	}
	if masked {
		out = append(out, 0x88, 0x81, 0x88, 0x7f) // looks like heads
	}
	return append(out, bytes.Repeat([]byte{0x88}, n)...)
}

// ends are the places in in behind which Frames is between two, of pieces of a size.
func ends(in []byte, size int) (at []int, f Frames) {
	for done := 0; done < len(in); {
		b := in[done:min(done+size, len(in))]
		for len(b) > 0 {
			n := f.Next(b)
			b, done = b[n:], done+n
			if f.Between() {
				at = append(at, done)
			}
		}
	}
	return at, f
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		frames [][]byte
		closed bool
	}{
		{"empty", [][]byte{framed(0x81, false, 0, 0), framed(0x81, false, 0, 0)}, false},
		{"short", [][]byte{framed(0x82, false, 0, 1), framed(0x82, false, 0, 125)}, false},
		{"two bytes of length", [][]byte{framed(0x82, false, 2, 126), framed(0x82, false, 2, 65535)}, false},
		{"eight bytes of length", [][]byte{framed(0x82, false, 8, 65536), framed(0x82, false, 0, 1)}, false},
		{"lengths longer than they need be", [][]byte{framed(0x82, false, 2, 0), framed(0x82, false, 8, 0), framed(0x82, false, 8, 5)}, false},
		{"masked", [][]byte{framed(0x81, true, 0, 0), framed(0x81, true, 0, 9), framed(0x81, true, 2, 300), framed(0x81, true, 8, 70000)}, false},
		{"a message in parts, and a ping between them", [][]byte{framed(0x01, false, 0, 3), framed(0x89, false, 0, 2), framed(0x80, false, 0, 3)}, false},
		{"bits of extensions", [][]byte{framed(0xc1, false, 0, 3), framed(0x71, false, 0, 3)}, false},
		{"a close frame", [][]byte{framed(0x81, false, 0, 3), framed(0x88, false, 0, 2)}, true},
		{"a client's close frame", [][]byte{framed(0x88, true, 0, 0)}, true},
		{"ours", [][]byte{AppendClose(nil, Leaving), AppendClose(nil, Ending{1000, ""})}, true},
	} {
		var in []byte
		var want []int
		for _, f := range tt.frames {
			in = append(in, f...)
			want = append(want, len(in))
		}
		for _, size := range []int{1, 2, 3, 7, 1000, len(in)} {
			if got, f := ends(in, size); !slices.Equal(got, want) || f.Closed() != tt.closed {
				t.Errorf("%s, %d at once: got %v, %v; want %v, %v", tt.name, size, got, f.Closed(), want, tt.closed)
			}
		}
		for n := range in[:min(len(in), 500)] { // cut: between two only where one ends
			if _, f := ends(in[:n], 5); n > 0 && f.Between() != slices.Contains(want, n) {
				t.Errorf("%s, cut behind %d: between two: %v", tt.name, n, f.Between())
			}
		}
	}
	var f Frames
	f.Follow([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	if n := f.Next(make([]byte, 1000)); n != 1000 || f.Between() || f.left != 1<<64-1-1000 {
		t.Errorf("the largest length there is: took %d, %d are left", n, f.left)
	}
	f = Frames{}
	if f.Follow([]byte{0x88, 5, 0}); f.Closed() {
		t.Error("half of a close frame went by as a whole one")
	}
	if got := string(AppendClose([]byte("x"), Ending{1012, strings.Repeat("y", 200)})); got != "x\x88\x7d\x03\xf4"+strings.Repeat("y", 123) {
		t.Errorf("got %q", got)
	}
}

// FuzzFrames: any split of the bytes gives the same ends, and those that a reader with all
// of the bytes finds.
func FuzzFrames(f *testing.F) {
	f.Add(slices.Concat(framed(0x81, true, 2, 300), framed(0x88, false, 0, 2), []byte{0x82, 0xff, 1}), 3)
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff----"), 2)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		want, closed := plainly(in)
		for _, size := range []int{len(in) + 1, 1, max(1, size)} {
			got, f := ends(in, size)
			if !slices.Equal(got, want) || f.closes && f.Between() && !closed || closed && !f.closes {
				t.Fatalf("%d at once: got %v, %v; want %v, %v", size, got, f.closes, want, closed)
			}
		}
	})
}

// plainly is where frames end, and whether one of them is a close frame.
func plainly(in []byte) (at []int, closed bool) {
	for from := 0; len(in)-from >= 2; {
		head, n := 2, uint64(in[from+1]&0x7f)
		rest := in[from+2:]
		switch {
		case n == 126 && len(rest) >= 2:
			head, n = 4, uint64(binary.BigEndian.Uint16(rest))
		case n == 127 && len(rest) >= 8:
			head, n = 10, binary.BigEndian.Uint64(rest)
		case n >= 126:
			return at, closed
		}
		if in[from+1]&0x80 != 0 {
			head += 4
		}
		if have := len(in) - from - head; have < 0 || uint64(have) < n {
			return at, closed
		}
		closed = closed || in[from]&0x0f == 8
		from += head + int(n)
		at = append(at, from)
	}
	return at, closed
}

package h1

import (
	"strings"
	"testing"
)

// TestEndlessFramingIsRefused: what of a chunked body is no data is bounded: sizes,
// extensions, of one chunk and of all, and trailers.
func TestEndlessFramingIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		begins, goesOn string
		most           int // bytes that are looked at
		want           Fault
	}{
		"a size":             {"", "0", maxSize + 1, ChunkTooLong},
		"an extension":       {"1;", "x", maxSizeLine + 1, ChunkTooLong},
		"extensions":         {"", "1;" + strings.Repeat("x", 200) + "\r\ny\r\n", maxBlank * 11 / 10, ChunkTooLong},
		"a trailer":          {"0\r\nX: ", "y", defaultTrailer + len("0\r\n"), TrailerTooLarge},
		"trailers":           {"0\r\n", "X: " + strings.Repeat("y", 100) + "\r\n", defaultTrailer + len("0\r\n") + 105, TrailerTooLarge},
		"trailers, of a few": {"0\r\n", "X: y\r\n", len("0\r\n") + len("X: y\r\n")*(defaultFields+1), TooManyFields},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b Body
			b.Begin(Chunked, Limits{}, true)
			in, read, f := []byte(tt.begins), len(tt.begins), None
			for f == None && read <= tt.most {
				in, read = append(in, tt.goesOn...), read+len(tt.goesOn)
				for n := -1; n != 0 && f == None; in = in[n:] {
					_, n, f = b.Next(in)
				}
			}
			if f != tt.want || read > tt.most {
				t.Errorf("got %v after %d bytes, want %v after %d at most", f, read, tt.want, tt.most)
			}
		})
	}
}

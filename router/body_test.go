package router

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cellway/cellway/infra/problem"
)

// TestBodyRewind: what is kept whole can be repeated, and an attempt that is over reads
// nothing more from the client.
func TestBodyRewind(t *testing.T) {
	t.Parallel()
	for _, size := range []int{keptBody, keptBody + 10} {
		content := strings.Repeat("0123456789", size/10+1)[:size]
		r := httptest.NewRequest("POST", "/", strings.NewReader(content))
		b, err := readBody(httptest.NewRecorder(), r, 0)
		if err != nil {
			t.Fatal(err)
		}
		first := b.attach(r.Clone(t.Context())).Body
		if _, err := io.ReadFull(first, make([]byte, keptBody)); err != nil {
			t.Fatal(err)
		}
		if again := b.rewind(); again != (size == keptBody) {
			t.Errorf("%d bytes: can be repeated is %v", size, again)
		}
		if n, err := first.Read(make([]byte, 1)); n != 0 || size > keptBody && !errors.Is(err, errAttemptOver) {
			t.Errorf("%d bytes: the attempt that is over: got %d, %v", size, n, err)
		}
		if size > keptBody {
			continue
		}
		got, err := io.ReadAll(b.attach(r.Clone(t.Context())).Body)
		if err != nil || string(got) != content {
			t.Errorf("the repeat: got %d bytes, %v, want %d", len(got), err, size)
		}
	}
}

// A drip is a body that comes slowly, and knows how much memory waits for it.
type drip struct {
	came, waits int
	most        float64 // memory for each byte that had come, over the first piece
}

func (d *drip) Read(p []byte) (int, error) {
	if d.waits = d.came + len(p); d.waits > firstPiece {
		d.most = max(d.most, float64(d.waits)/float64(d.came))
	}
	d.came += min(len(p), 1000)
	return min(len(p), 1000), nil
}

// TestBodyTakesMemoryAsItComes, and not for what was announced.
func TestBodyTakesMemoryAsItComes(t *testing.T) {
	t.Parallel()
	for _, announced := range []int64{1 << 20, -1} {
		d := &drip{}
		r := httptest.NewRequest("POST", "/", d)
		r.ContentLength = announced
		b, err := readBody(httptest.NewRecorder(), r, 0)
		if err != nil || len(b.prefix) != keptBody || b.whole {
			t.Fatalf("got %d bytes, whole %v, %v", len(b.prefix), b.whole, err)
		}
		if d.most > 3 {
			t.Errorf("announced %d: %.1f bytes wait for each that has come", announced, d.most)
		}
	}
}

// TestABodyThatIsCutIsNotWhole: however its length was said.
func TestABodyThatIsCutIsNotWhole(t *testing.T) {
	t.Parallel()
	for _, announced := range []int64{100, -1} {
		r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF)))
		r.ContentLength = announced
		if b, err := readBody(httptest.NewRecorder(), r, 0); err == nil {
			t.Errorf("announced %d: got %q, whole %v", announced, b.prefix, b.whole)
		}
	}
}

func TestBodyOfEachSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, keptBody - 1, keptBody, keptBody + 1, 3 * keptBody} {
		for _, known := range []bool{true, false} {
			r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", size)))
			if !known {
				r.ContentLength = -1
			}
			b, err := readBody(httptest.NewRecorder(), r, 0)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(b.attach(r).Body)
			if err != nil || len(got) != size {
				t.Errorf("size %d, known %v: got %d bytes, %v", size, known, len(got), err)
			}
			if want := size <= keptBody; b.rewind() != want && known {
				t.Errorf("size %d: can be repeated is %v, want %v", size, !want, want)
			}
		}
	}
}

// TestABodyThatIsLateMayBeRepeated: nothing is wrong with it, and who gave way to others, or
// is slow, is told to come back; whether its beginning or more of it was waited for.
func TestABodyThatIsLateMayBeRepeated(t *testing.T) {
	t.Parallel()
	late := iotest.ErrReader(fmt.Errorf("read: %w", os.ErrDeadlineExceeded))
	check := func(err error) {
		t.Helper()
		if p, ok := errors.AsType[*problem.Error](err); !ok || p.Kind != problem.RateLimited || p.RetryAfter == 0 {
			t.Errorf("got %v, want that it may be repeated", err)
		}
	}
	_, err := readBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("half"), late)), 0)
	check(err)
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", keptBody)), late))
	b, err := readBody(httptest.NewRecorder(), r, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(b.attach(r).Body)
	check(b.failed(fmt.Errorf("sending it: %w", err)))
	if err := b.failed(io.ErrUnexpectedEOF); err != nil {
		t.Errorf("the cell's failure is told as the client's: %v", err)
	}
}

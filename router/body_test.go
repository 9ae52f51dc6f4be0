package router

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestBodyRewind: an attempt that has read no more than what is kept can be
// repeated, and one that is over reads nothing more from the client.
func TestBodyRewind(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", keptBody/5)
	r := httptest.NewRequest("POST", "/", strings.NewReader(content))
	b, err := readBody(httptest.NewRecorder(), r, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := b.attach(r.Clone(t.Context())).Body
	if _, err := io.ReadFull(first, make([]byte, keptBody)); err != nil {
		t.Fatal(err)
	}
	if !b.rewind() {
		t.Fatal("nothing beyond what is kept was read, and it cannot be repeated")
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, errAttemptOver) {
		t.Errorf("the attempt that is over: got %v", err)
	}
	second := b.attach(r.Clone(t.Context())).Body
	got, err := io.ReadAll(second)
	if err != nil || string(got) != content {
		t.Errorf("the repeat: got %d bytes, %v, want %d", len(got), err, len(content))
	}
	if b.rewind() {
		t.Error("all was read, and it says that it can be repeated")
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

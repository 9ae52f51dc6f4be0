package h1

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestARefusedUploadReadsItsAnswer: a client that writes all of a large body
// before it reads gets the answer that came early, and no reset.
func TestARefusedUploadReadsItsAnswer(t *testing.T) {
	t.Parallel()
	_, addr := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}, nil)
	w := dial(t, addr)
	_ = w.SetDeadline(time.Now().Add(patience))
	head := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n"
	if _, err := io.WriteString(w, head+strings.Repeat("x", 8<<20)); err != nil {
		t.Fatalf("the upload was cut: %v", err)
	}
	if got := w.ends(); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("got %q, want the 413", got)
	}
}

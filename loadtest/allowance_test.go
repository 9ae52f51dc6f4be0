package loadtest

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestAllowanceSeesWhatIsForgotten: 60 requests a minute, so that one comes back each second.
func TestAllowanceSeesWhatIsForgotten(t *testing.T) {
	t.Parallel()
	type answer struct{ sent, got, left int } // seconds, requests; left < 0 is not told
	for name, tt := range map[string]struct {
		answers []answer
		want    int
	}{
		"used":                    {[]answer{{0, 0, 59}, {0, 0, 58}, {1, 1, 58}}, 0},
		"comes back":              {[]answer{{0, 0, 30}, {20, 20, 49}, {90, 90, 59}}, 0},
		"answered late":           {[]answer{{0, 20, 30}, {20, 40, 59}}, 0},
		"nobody counts meanwhile": {[]answer{{0, 0, 30}, {5, 5, -1}, {6, 6, 35}}, 0},
		"forgotten":               {[]answer{{0, 0, 30}, {2, 2, 59}}, 26},
		"forgotten in a pause":    {[]answer{{0, 0, 30}, {2, 5, 59}}, 23},
		"once":                    {[]answer{{0, 0, 30}, {2, 2, 59}, {3, 3, 59}}, 26},
		"forgotten after a while": {[]answer{{0, 0, 0}, {30, 30, 29}, {31, 31, 59}}, 28},
	} {
		a, start, got := allowance{perMinute: 60}, time.Now(), 0
		for _, s := range tt.answers {
			h := http.Header{}
			if s.left >= 0 {
				h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=1`, s.left))
			}
			a.answered(a.mark(), start.Add(time.Duration(s.sent)*time.Second), start.Add(time.Duration(s.got)*time.Second), h)
		}
		for _, b := range a.back {
			got += b.Requests
		}
		if got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

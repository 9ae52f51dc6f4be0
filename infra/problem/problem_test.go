package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sendOver serves err as a problem over real HTTP and reads it back.
func sendOver(t *testing.T, err error, where Where) (*http.Response, error) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { Write(w, err, where) }))
	t.Cleanup(srv.Close)
	resp, e := srv.Client().Get(srv.URL)
	if e != nil {
		t.Fatal(e)
	}
	defer resp.Body.Close()
	return resp, Read(resp)
}

func TestEveryKindSurvivesAHop(t *testing.T) {
	t.Parallel()
	for kind, status := range statuses {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			resp, got := sendOver(t, New(kind, "what happened"), Where{})
			if resp.StatusCode != status {
				t.Errorf("got status %d, want %d", resp.StatusCode, status)
			}
			if !errors.Is(got, kind) || got.Error() != "what happened" {
				t.Errorf("got %v of kind %s, want kind %s", got, KindOf(got), kind)
			}
		})
	}
}

func TestAProblemArrivesWhole(t *testing.T) {
	t.Parallel()
	want := &Error{
		Kind: Stale, Detail: "placement is older", Fields: []Field{{"/name", "is empty"}},
		Extra: map[string]string{"epoch": "7"}, RetryAfter: 1500 * time.Millisecond,
	}
	resp, err := sendOver(t, fmt.Errorf("fence: %w", want), Where{Source: "cell", RequestID: "r1", TraceID: "t1", Instance: "/v1/x"})
	got, ok := errors.AsType[*Error](err)
	if !ok || got.Detail != want.Detail || !slices.Equal(got.Fields, want.Fields) || !maps.Equal(got.Extra, want.Extra) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.RetryAfter != 2*time.Second {
		t.Errorf("retry after %v, want it rounded up to 2s", got.RetryAfter)
	}
	for name, value := range map[string]string{"Content-Type": ContentType, "Cache-Control": "no-store", "Retry-After": "2"} {
		if h := resp.Header.Get(name); h != value {
			t.Errorf("%s: got %q, want %q", name, h, value)
		}
	}
}

func TestDocumentSaysWhere(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	Write(rec, New(NotFound, "no project"), Where{Source: "cell", RequestID: "r1", TraceID: "t1", Instance: "/v1/x"})
	var got map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"type": "https://cellway.github.io/errors#not-found", "title": "Not Found", "status": 404.0, "detail": "no project",
		"instance": "/v1/x", "code": "not-found", "request_id": "r1", "trace_id": "t1", "source": "cell",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTextWithoutAKindStaysInside(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		errors.New("dial tcp 10.0.0.7: refused"),
		Wrap(Internal, errors.New("dial tcp 10.0.0.7: refused"), "try again"),
		fmt.Errorf("dial tcp 10.0.0.7: %w", Conflict),
	} {
		rec := httptest.NewRecorder()
		Write(rec, err, Where{})
		if strings.Contains(rec.Body.String(), "10.0.0.7") {
			t.Errorf("%v: body shows it: %s", err, rec.Body)
		}
	}
}

func TestReadOfOtherAnswers(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]Kind{
		401: Unauthenticated, 403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 409: Conflict, 410: Gone, 412: PreconditionFailed, 413: TooLarge, 418: Invalid, 421: Invalid,
		429: RateLimited, 500: Internal, 502: Unavailable, 503: Unavailable, 504: Timeout,
	} {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}
		if got := KindOf(Read(resp)); got != want {
			t.Errorf("%d: got %s, want %s", status, got, want)
		}
	}
}

func TestDescribeHasTheCausesThatErrorLeavesOut(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection reset")
	inner := Wrap(Unavailable, cause, "store does not answer")
	for _, tt := range []struct {
		err         error
		text, whole string
	}{
		{nil, "", ""},
		{cause, "connection reset", "connection reset"},
		{inner, "store does not answer", "store does not answer: connection reset"},
		{fmt.Errorf("list: %w", inner), "list: store does not answer", "list: store does not answer: connection reset"},
		{New(Conflict, "take name: %w", cause), "take name: connection reset", "take name: connection reset"},
		{Wrap(Timeout, inner, "no answer"), "no answer", "no answer: store does not answer: connection reset"},
	} {
		if tt.err != nil && tt.err.Error() != tt.text {
			t.Errorf("Error: got %q, want %q", tt.err, tt.text)
		}
		if got := Describe(tt.err); got != tt.whole {
			t.Errorf("Describe: got %q, want %q", got, tt.whole)
		}
	}
}

// TestEveryKindHasItsRow: the URL that a document's type is leads to the row of its code in
// docs/ERRORS.md, which is of no code that there is not.
func TestEveryKindHasItsRow(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/ERRORS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[Kind]int{}
	row := regexp.MustCompile("(?m)^\\| <a id=\"(.+)\"></a>`(.+)` \\| ([0-9]+) \\| [^|]+ \\| [^|]+ \\|$")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		status, err := strconv.Atoi(m[3])
		if m[1] != m[2] || err != nil {
			t.Errorf("row of %s: its anchor is %q, its status %q", m[2], m[1], m[3])
		}
		documented[Kind(m[2])] = status
	}
	if !maps.Equal(documented, statuses) || strings.Count(string(page), "\n| <a") != len(statuses) {
		t.Errorf("docs/ERRORS.md has %v, want each once of %v", documented, statuses)
	}
	for name := range kinds(t) {
		if _, ok := statuses[name]; !ok {
			t.Errorf("kind %s has no status", name)
		}
	}
}

// kinds are those that any package defines.
func kinds(t *testing.T) map[Kind]bool {
	t.Helper()
	here := regexp.MustCompile(`\bKind += "([^"]+)"`)
	elsewhere := regexp.MustCompile(`\bproblem\.Kind(?: += |\()"([^"]+)"`)
	found := map[Kind]bool{}
	for _, top := range []string{"router", "cell", "directory", "infra"} {
		err := filepath.WalkDir(filepath.Join("../..", top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			form := elsewhere
			if filepath.Dir(path) == "../../infra/problem" {
				form = here
			}
			for _, m := range form.FindAllStringSubmatch(string(text), -1) {
				found[Kind(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < len(statuses) {
		t.Errorf("found %d kinds in the code, and %d have a status", len(found), len(statuses))
	}
	return found
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want Kind
	}{
		{errors.New("x"), Internal},
		{Conflict, Conflict},
		{fmt.Errorf("x: %w", Gone), Gone},
		{fmt.Errorf("x: %w", New(NotFound, "y").With("cell", "c1")), NotFound},
		{Wrap(Timeout, Conflict, "outer"), Timeout},
	} {
		if got := KindOf(tt.err); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.err, got, tt.want)
		}
	}
	if !errors.Is(Wrap(Timeout, Conflict, "outer"), Conflict) {
		t.Error("the cause's kind is lost")
	}
}

package resource

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func TestCursorGoesRoundTrip(t *testing.T) {
	t.Parallel()
	at := List{Tenant: 7, Name: "projects"}
	for _, id := range []string{"proj_01", "0192f0c1-6f7e-7c3a-9d0e-2f1b5a7c9e11", "a@b.example/c"} {
		cursor := at.cursor(id)
		if got, err := at.After(&cursor); err != nil || got != id {
			t.Errorf("after: got %q, %v, want %q", got, err, id)
		}
	}
}

func TestCursorOfAnotherListOrTenantIsInvalid(t *testing.T) {
	t.Parallel()
	cursor := List{Tenant: 7, Name: "tasks/proj_1"}.cursor("task_01")
	for _, tt := range []struct {
		name, cursor, list string
		tenant             directory.TenantID
	}{
		{"another tenant", cursor, "tasks/proj_1", 8},
		{"another list", cursor, "projects", 7},
		{"cut", cursor[:len(cursor)-2], "tasks/proj_1", 7},
		{"longer", cursor + "AA", "tasks/proj_1", 7},
		{"not base64", "***", "tasks/proj_1", 7},
		{"empty", "", "tasks/proj_1", 7},
		{"a bare id", "task_01", "tasks/proj_1", 7},
		{"one bit off", strings.ToUpper(cursor[:1]) + "x" + cursor[2:], "tasks/proj_1", 7},
	} {
		if _, err := (List{Tenant: tt.tenant, Name: tt.list}).After(&tt.cursor); !errors.Is(err, problem.Invalid) {
			t.Errorf("%s: got %v, want %v", tt.name, err, problem.Invalid)
		}
	}
}

func TestCursorIsAllOrNothing(t *testing.T) {
	t.Parallel()
	at := List{Tenant: 7, Name: "projects"}
	rapid.Check(t, func(t *rapid.T) {
		cursor := rapid.String().Draw(t, "cursor")
		if after, err := at.After(&cursor); err == nil {
			if again := at.cursor(after); again != cursor {
				t.Fatalf("accepted %q, which is not the cursor of %q", cursor, after)
			}
		}
	})
}

func TestIDsSortByTheTimeTheyWereMade(t *testing.T) {
	t.Parallel()
	last := ""
	for range 1000 {
		id, err := NewID("proj")
		if err != nil {
			t.Fatal(err)
		}
		if id <= last {
			t.Fatalf("id %q after %q", id, last)
		}
		last = id
	}
	if got, want := len(last), len("proj_")+26; got != want {
		t.Errorf("length: got %d, want %d", got, want)
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	str := func(s string) *string { return &s }
	for _, tt := range []struct {
		header *string
		want   error
	}{
		{nil, nil},
		{str("*"), nil},
		{str(`"3"`), nil},
		{str(`"1", "3"`), nil},
		{str(`"2"`), problem.PreconditionFailed},
		{str(`W/"3"`), problem.PreconditionFailed}, // a weak tag never matches
		{str(`3`), problem.Invalid},
		{str(``), problem.Invalid},
		{str(`"3`), problem.Invalid},
	} {
		if got := CheckMatch(tt.header, 3); !errors.Is(got, tt.want) {
			t.Errorf("If-Match %v: got %v, want %v", tt.header, got, tt.want)
		}
	}
}

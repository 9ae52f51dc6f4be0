package pg_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/testkit"
)

// TestTextIsTaken: by a real server, whatever it was, and cut between characters.
func TestTextIsTaken(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for in, want := range map[string]string{"plain": "plain", "zero\x00byte": "zero?byt", "\xff\xfe": "?", "über €€": "über ", "": ""} {
		got := pg.Text(in, 8)
		var stored string
		if err := conn.QueryRow(t.Context(), `SELECT $1::text`, got).Scan(&stored); err != nil || stored != got || got != want {
			t.Errorf("%q: got %q, stored %q, %v; want %q", in, got, stored, err, want)
		}
	}
}

package figure

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Durable refuses a Postgres that does not write what it acknowledges: figures of
// it would be too good.
func Durable(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var got string
		if err := conn.QueryRow(ctx, "SHOW "+setting).Scan(&got); err != nil {
			return fmt.Errorf("read %s: %w", setting, err)
		}
		if got != "on" {
			return fmt.Errorf("the Postgres under test has %s %s; the figures are of durable writes", setting, got)
		}
	}
	return nil
}

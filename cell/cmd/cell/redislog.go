package main

import (
	"context"
	"fmt"
	"log/slog"
)

// redisLog takes in what go-redis has to say. Whoever uses Redis logs its own
// trouble once; a line per failed dial is for debugging.
type redisLog struct{ log *slog.Logger }

// Printf is what go-redis calls.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "text", fmt.Sprintf(format, v...))
}

package projects

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
)

// streamBatch is how many entries are read in one transaction.
const streamBatch = 200

// StreamActivity serves GET /v1/activity/stream.
func (h *handlers) StreamActivity(ctx context.Context, req StreamActivityRequestObject) (StreamActivityResponseObject, error) {
	after := cell.Place{Seq: resource.Or(req.Params.After, 0)}
	if id := req.Params.LastEventID; id != nil {
		var err error
		if after, err = cell.ParsePlace(*id); err != nil {
			return nil, err
		}
	}
	return stream(func(w http.ResponseWriter) error { return h.db.Stream(ctx, w, after, activityFeed) }), nil
}

// A stream is a response that goes on as long as it likes.
type stream func(w http.ResponseWriter) error

// VisitStreamActivityResponse writes the response.
func (s stream) VisitStreamActivityResponse(w http.ResponseWriter) error { return s(w) }

func activityFeed(ctx context.Context, tx *store.Tx, from int64) ([]cell.Message, error) {
	items, err := listActivity(ctx, tx, from-1, streamBatch)
	if err != nil {
		return nil, err
	}
	batch := make([]cell.Message, len(items))
	for i, a := range items {
		data, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("encode activity %d: %w", a.Seq, err)
		}
		batch[i] = cell.Message{Seq: a.Seq, Event: a.EventID, Data: data}
	}
	return batch, nil
}

package outbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/infra/telemetry"
)

// An entry of a stream has one field: the event, or, where that is larger than maxEntry, the
// event without its data, which is read from the outbox. A stream is bounded by the number of
// its entries, and how large those are is the tenants' doing.
const (
	field      = "event"
	fieldApart = "apart"
	maxEntry   = 4 << 10 // bytes
)

// send appends events to the stream of their tenant's partition, in order, in
// one round trip. After an error any number of them may be there.
func (r *Relay) send(ctx context.Context, events []Event) error {
	stream := Stream(Partition(events[0].Tenant))
	spans := make([]trace.Span, len(events))
	pipe := r.redis.Pipeline()
	for i, e := range events {
		_, spans[i] = e.span(ctx, "publish", trace.SpanKindProducer, stream)
		values, err := e.entry()
		if err != nil {
			return fmt.Errorf("publish event %s: %w", e.ID, err)
		}
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: r.o.MaxLen, Approx: true, Values: values})
	}
	_, err := pipe.Exec(ctx)
	for _, s := range spans {
		EndSpan(s, err)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", stream, err)
	}
	r.metrics.published.Add(float64(len(events)))
	return nil
}

func (e Event) entry() ([]any, error) {
	body, err := json.Marshal(e)
	if err != nil || len(body) <= maxEntry {
		return []any{field, body}, err
	}
	e.Data = nil
	body, err = json.Marshal(e)
	return []any{fieldApart, body}, err
}

// FromEntry reads the event from a stream's entry. Data is nil where it is not there.
func FromEntry(values map[string]any) (e Event, err error) {
	body, whole := values[field].(string)
	if !whole {
		var apart bool
		if body, apart = values[fieldApart].(string); !apart {
			return e, fmt.Errorf("read stream entry: it has no field %q", field)
		}
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		return e, fmt.Errorf("read stream entry: %w", err)
	}
	if !whole {
		e.Data = nil // JSON has null
	}
	return e, nil
}

// ConsumeSpan starts the span of consumer's work on e, in the trace of the
// request that caused e. End it with EndSpan.
func (e Event) ConsumeSpan(ctx context.Context, consumer string) (context.Context, trace.Span) {
	ctx, span := e.span(ctx, "process", trace.SpanKindConsumer, Stream(Partition(e.Tenant)))
	span.SetAttributes(attribute.String("messaging.consumer.group.name", consumer))
	return ctx, span
}

// span continues e's trace; an event that was not traced stays so.
func (e Event) span(ctx context.Context, verb string, kind trace.SpanKind, stream string) (context.Context, trace.Span) {
	if e.Traceparent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": e.Traceparent})
	}
	return otel.Tracer("github.com/cellway/cellway/cell/outbox").Start(ctx, verb+" "+e.Type,
		trace.WithSpanKind(kind), trace.WithAttributes(
			attribute.String("messaging.system", "redis"), attribute.String("messaging.destination.name", stream),
			attribute.String("messaging.operation.type", map[string]string{"publish": "send", "process": "process"}[verb]),
			attribute.String("messaging.message.id", e.ID),
			telemetry.TenantKey.Int64(int64(e.Tenant)), telemetry.CellKey.String(string(e.Cell)), telemetry.EpochKey.Int64(int64(e.Epoch))))
}

// EndSpan ends a span, marked as failed where err is not nil.
func EndSpan(s trace.Span, err error) {
	if err != nil {
		s.RecordError(err)
		s.SetStatus(codes.Error, "")
	}
	s.End()
}

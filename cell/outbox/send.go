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

// field is the one field of a stream's entry.
const field = "event"

// send appends events to the stream of their tenant's partition, in order, in
// one round trip. After an error any number of them may be there.
func (r *Relay) send(ctx context.Context, events []Event) error {
	stream := Stream(Partition(events[0].Tenant))
	spans := make([]trace.Span, len(events))
	pipe := r.redis.Pipeline()
	for i, e := range events {
		_, spans[i] = e.span(ctx, "publish", trace.SpanKindProducer, stream)
		body, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("publish event %s: %w", e.ID, err)
		}
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: r.o.MaxLen, Approx: true, Values: []any{field, body}})
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

// FromEntry reads the event from a stream's entry.
func FromEntry(values map[string]any) (e Event, err error) {
	body, ok := values[field].(string)
	if !ok {
		return e, fmt.Errorf("read stream entry: it has no field %q", field)
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		return e, fmt.Errorf("read stream entry: %w", err)
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

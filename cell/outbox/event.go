// Package outbox writes events in the transaction of what they tell about and
// publishes them, in order per tenant, to the cell's Redis streams.
//
// [Append] numbers a tenant's events without gaps, in commit order. The [Relay]
// publishes each at least once: after a crash it may repeat events, identical to
// the byte, and never leaves one out. Consumers that keep the last number they
// have done (package worker) see each event once. Postgres is the authority;
// what Redis loses is read from there again.
package outbox

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
)

// Partitions is the number of streams over which a cell's tenants are spread. It
// is part of what Redis and the processes of a cell agree on; it cannot be
// changed while they run.
const Partitions = 8

// An Event is something that happened to one tenant.
type Event struct {
	ID          string // UUIDv7
	Tenant      directory.TenantID
	Seq         int64 // 1, 2, 3, ... per tenant
	Type        string
	Subject     string    // what it is about: "task/0192..."
	Time        time.Time // from the database, UTC
	Data        json.RawMessage
	Traceparent string           // of the request that caused it; "" where it was not traced
	Epoch       directory.Epoch  // at which it was written
	Cell        directory.CellID // in which it was written
}

// typeForm: a domain of two labels, the module, what happened, the version.
var typeForm = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+\.[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\.v[1-9][0-9]*$`)

// Module is the module that wrote the event: the third part of its type.
func (e Event) Module() string { return strings.Split(e.Type+"...", ".")[2] }

// Partition is the stream of the tenant's events; cell.partition is the same in SQL.
func Partition(t directory.TenantID) int {
	return int(uint64(t) % (1 << 31) * 2654435761 % (1 << 32) >> 16 % Partitions)
}

// Stream is the Redis key of a partition's stream.
func Stream(partition int) string { return "cell:events:" + strconv.Itoa(partition) }

// A cloudEvent is the wire form: CloudEvents 1.0 in JSON. The numbers are text
// because the specification's integers have 32 bits.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	TenantID        string          `json:"tenantid"`
	Sequence        string          `json:"sequence"`
	PartitionKey    string          `json:"partitionkey"`
	Traceparent     string          `json:"traceparent,omitempty"`
	CellEpoch       string          `json:"cellepoch"`
	Data            json.RawMessage `json:"data"`
}

// MarshalJSON writes the event as a CloudEvent.
func (e Event) MarshalJSON() ([]byte, error) {
	tenant := strconv.FormatInt(int64(e.Tenant), 10)
	return json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: "/cells/" + string(e.Cell) + "/" + e.Module(), Type: e.Type,
		Subject: e.Subject, Time: e.Time.UTC(), DataContentType: "application/json", TenantID: tenant,
		Sequence: strconv.FormatInt(e.Seq, 10), PartitionKey: tenant, Traceparent: e.Traceparent,
		CellEpoch: strconv.FormatInt(int64(e.Epoch), 10), Data: e.Data,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Event) UnmarshalJSON(b []byte) error {
	var c cloudEvent
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	tenant, err1 := directory.ParseTenantID(c.TenantID)
	seq, err2 := strconv.ParseInt(c.Sequence, 10, 64)
	epoch, err3 := strconv.ParseInt(c.CellEpoch, 10, 64)
	source := strings.Split(c.Source, "/")
	if c.SpecVersion != "1.0" || err1 != nil || err2 != nil || err3 != nil || seq < 1 || len(source) != 4 || source[1] != "cells" {
		return fmt.Errorf("event %q: it is not one of ours", c.ID)
	}
	*e = Event{
		ID: c.ID, Tenant: tenant, Seq: seq, Type: c.Type, Subject: c.Subject, Time: c.Time, Data: c.Data,
		Traceparent: c.Traceparent, Epoch: directory.Epoch(epoch), Cell: directory.CellID(source[2]),
	}
	return nil
}

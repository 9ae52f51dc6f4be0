package directory

import (
	"fmt"
	"iter"
)

// A Breach says that an update is not the continuation of a table, or of credentials.
type Breach struct{ Reason, Detail string }

// The reasons of a Breach.
const (
	Gap     = "gap"     // it begins after the table's version, or leaves changes out
	Older   = "older"   // it ends before the table's version
	Content = "content" // what it says of a subject is not what was changed
	Fork    = "fork"    // it continues another history
)

func (b *Breach) Error() string { return b.Detail + " (" + b.Reason + ")" }

func breach(reason, format string, args ...any) *Breach {
	return &Breach{reason, fmt.Sprintf(format, args...)}
}

// Continues reports, as a *Breach, why u does not bring a table that is at
// version and head to u.Version. A part of u that the table has already is passed
// over, which is no breach. A table that does not know its head takes u's; what u
// says of its own links is checked all the same. A whole table continues anything.
func (u Update) Continues(version Version, head Head) error {
	if u.Since == 0 && len(u.Links) == 0 && u.Version > 0 {
		return nil
	}
	return run{u.Since, u.Version, u.Head, u.Links}.continues(version, head, len(u.Routes)+len(u.Cells), u.says)
}

// says is each subject of u with what u says of it.
func (u Update) says(yield func(subject, Digest) bool) {
	for _, r := range u.Routes {
		if !yield(subject{tenant: r.Tenant}, r.Digest()) {
			return
		}
	}
	for _, c := range u.Cells {
		if !yield(subject{cell: c.ID}, c.Digest()) {
			return
		}
	}
}

// Continues is for credentials what it is for an Update. Where either side does not
// know its head, because its release had no chain, nothing is compared with the other's.
func (c Credentials) Continues(version Version, head Head) error {
	if c.Since == 0 {
		return nil
	}
	if c.Head.IsZero() {
		head = Head{}
	}
	return run{c.Since, c.Version, c.Head, c.Links}.continues(version, head, len(c.Keys)+len(c.Tokens), c.says)
}

// says is each subject of c with what c says of it.
func (c Credentials) says(yield func(subject, Digest) bool) {
	for _, k := range c.Keys {
		if !yield(subject{credential: k.ID}, k.Digest()) {
			return
		}
	}
	for _, t := range c.Tokens {
		if !yield(subject{credential: t.ID}, t.Digest()) {
			return
		}
	}
}

// A subject is who a link is of.
type subject struct {
	tenant     TenantID
	cell       CellID
	credential string
}

func (s subject) String() string {
	switch {
	case s.credential != "":
		return "credential " + s.credential
	case s.cell != "":
		return "cell " + string(s.cell)
	}
	return "tenant " + s.tenant.String()
}

// A run is the part of a chain that an update has.
type run struct {
	since, version Version
	head           Head
	links          []Link
}

// continues reports why the run does not lead from version and head to its end, or
// why the n subjects that says has are not what its links end with.
func (r run) continues(version Version, head Head, n int, says iter.Seq2[subject, Digest]) error {
	switch {
	case r.since > version:
		return breach(Gap, "update from version %d does not continue version %d", r.since, version)
	case r.version < version:
		return breach(Older, "update to version %d is older than version %d", r.version, version)
	case r.head.IsZero() && head.IsZero():
		return nil // a directory without a chain
	case r.head.IsZero():
		return breach(Fork, "version %d comes without a head", r.version)
	case Version(len(r.links)) != r.version-r.since:
		return breach(Gap, "%d changes from version %d to %d", len(r.links), r.since, r.version)
	}
	at := version
	for _, l := range r.links[version-r.since:] {
		at++
		if !head.IsZero() {
			head = head.After(at, l.Digest)
		}
	}
	if !head.IsZero() && head != r.head {
		return breach(Fork, "version %d has head %x, what is known leads to %x", r.version, r.head[:8], head[:8])
	}
	return r.endsWith(n, says)
}

// endsWith checks that the n subjects are those of the links, as the last link of each
// left it.
func (r run) endsWith(n int, says iter.Seq2[subject, Digest]) error {
	last := make(map[subject]Digest, len(r.links))
	for _, l := range r.links {
		last[subject{l.Tenant, l.Cell, l.Credential}] = l.Digest
	}
	if len(last) != n {
		return breach(Content, "version %d changed %d subjects and says %d", r.version, len(last), n)
	}
	for s, said := range says {
		if d, ok := last[s]; !ok || d != said {
			return breach(Content, "version %d does not say of %s what was changed", r.version, s)
		}
	}
	return nil
}

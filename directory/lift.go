package directory

import (
	"errors"
	"time"
)

// A record that was restored is behind the tables of its routers, which never go back.
// What changes in it would reach none of them until as many versions were made as were
// lost: its version is lifted beyond theirs, and they take it as a whole.
const (
	MarginVersions = 1000      // above what a router serves: another one may serve more
	FarVersions    = 1_000_000 // who serves more versions above the record's is not believed
	// LiftPause is the least between two lifts, each of which costs every router a snapshot.
	LiftPause = time.Minute
	// LiftWithin is how long after it was first found in its database (the cluster, its
	// timeline, the database, the table) a record may be lifted. A backup and a promoted
	// standby are in another one than the record was before. One that a failover has left
	// behind is where it always was: routers that come to it keep the newer table.
	LiftWithin = 10 * time.Minute
)

// ErrLifted says that the record's version was lifted, because a router served one that
// is newer. It comes with problem.Gone.
var ErrLifted = errors.New("the record was behind its routers, and its version is lifted above theirs")

// LiftedBy is the version that a record at now is lifted to where a router serves v.
func LiftedBy(v, now Version) (to Version, lifts bool) {
	if v <= now || v-now > FarVersions {
		return now, false
	}
	return v + MarginVersions, true
}

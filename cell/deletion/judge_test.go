package deletion

import (
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		epoch directory.Epoch
		due   bool
		has   fence.Tombstone
		want  step
	}{
		"in its grace":                     {3, false, fence.Tombstone{Epoch: 3, State: fence.Deleted}, wait},
		"the grace is over":                {3, true, fence.Tombstone{Epoch: 3, State: fence.Deleted, Rested: true}, purge},
		"it was heard of just now":         {3, true, fence.Tombstone{Epoch: 3, State: fence.Deleted}, wait},
		"it is purged":                     {3, true, fence.Tombstone{Epoch: 3, State: fence.Deleted, Purged: true}, report},
		"it was purged in a hurry":         {3, false, fence.Tombstone{Epoch: 3, State: fence.Deleted, Purged: true}, report},
		"an older deletion, due":           {3, true, fence.Tombstone{Epoch: 4, State: fence.Deleted}, raise},
		"an older deletion, purged since":  {3, true, fence.Tombstone{Epoch: 4, State: fence.Deleted, Purged: true}, raise},
		"it is served at a later epoch":    {3, true, fence.Tombstone{Epoch: 4, State: fence.Active}, dispute},
		"it left at a later epoch":         {3, true, fence.Tombstone{Epoch: 4, State: fence.Moved}, dispute},
		"it comes at a later epoch":        {3, true, fence.Tombstone{Epoch: 4, State: fence.Incoming}, dispute},
		"what the fence was not made into": {3, true, fence.Tombstone{Epoch: 2, State: fence.Deleted}, dispute},
		"nothing is known":                 {3, true, fence.Tombstone{}, dispute},
	} {
		if got := judge(directory.Deletion{Epoch: tt.epoch, Due: tt.due}, tt.has); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

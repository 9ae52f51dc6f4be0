package store

import "testing"

// TestAHubWakesWhoWaitsForTheTopic, and everybody where it does not know what about.
func TestAHubWakesWhoWaitsForTheTopic(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string][3]bool{
		aboutTable: {true, false, false}, aboutCredentials: {false, true, false}, aboutMembers: {false, false, true},
		"": {true, true, true}, "of a later release": {true, true, true},
	} {
		h := newHub()
		var got [3]bool
		waiting := []<-chan struct{}{h.newer(aboutTable), h.newer(aboutCredentials), h.newer(aboutMembers)}
		h.wake(topic)
		for i, c := range waiting {
			select {
			case <-c:
				got[i] = true
			default:
			}
		}
		if got != want {
			t.Errorf("%q wakes %v of table, credentials and members, want %v", topic, got, want)
		}
	}
}

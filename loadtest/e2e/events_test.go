package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cellway/cellway/loadtest"
)

// TestEventsSurviveKills: the process that publishes events and consumes them is
// killed again and again at random moments, and so is the Redis between the two;
// still every event is consumed once and in order.
func TestEventsSurviveKills(t *testing.T) {
	w := rough.alone(t)
	cell := w.cell(1)
	c := w.work(t, 4, cell)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 8 {
		c.more(t, cell, 20)
		if !loadtest.Pause(t.Context(), time.Duration(rng.IntN(400))*time.Millisecond) {
			t.Fatal("no time left")
		}
		name := string(cell) + "-worker"
		if round%4 == 3 {
			name = string(cell) + "-redis"
		}
		if err := w.Kill(name); err != nil {
			t.Fatal(err)
		}
		c.more(t, cell, 20)
		if err := w.StartProcess(within(t, patience), name); err != nil {
			t.Fatal(err)
		}
	}
	c.rest(t)
}

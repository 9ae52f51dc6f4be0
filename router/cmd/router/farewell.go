package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
)

// A farewell is what comes between the word to go and the end of the servers:
// clients are told, with the next answer on each connection, to open another one.
// So nobody sends a request into a connection that is being closed.
type farewell struct {
	settings
	rt      *router.Router
	entries []entry
	admin   *run.Admin
	guard   *guard.Guard
	log     *slog.Logger
}

// wait returns when the servers may shut down: after told has ended, after another
// router has taken over, or when serving has.
func (f *farewell) wait(told, serving context.Context, taken <-chan struct{}) {
	select {
	case <-serving.Done():
		f.admin.SetReady(false)
	case <-told.Done():
		f.begin("router stops")
		run.Pause(serving, f.StopDelay)
		f.rt.EndStreams() // balancers know: their clients do not come back here
	case <-taken:
		f.begin("another router has taken over")
		f.rt.EndStreams()
		ctx, cancel := context.WithTimeout(told, f.RetireTime)
		defer cancel()
		run.Pause(ctx, aloneEvery)
		untilAlone(ctx, f.guard)
	}
}

func (f *farewell) begin(why string) {
	f.log.Info(why)
	f.admin.SetReady(false)
	f.rt.Retire()
	for _, e := range f.entries {
		if server, ok := e.server.(interface{ Retire() }); ok {
			server.Retire()
		}
	}
}

// aloneEvery is how often it is looked whether a connection is left, and the time
// that one needs which was just accepted.
const aloneEvery = 50 * time.Millisecond

// untilAlone waits until nobody is connected, or ctx ends.
func untilAlone(ctx context.Context, g *guard.Guard) {
	for g.Connected() > 0 && run.Pause(ctx, aloneEvery) {
	}
}

// goodbyes is the time that WebSockets have that were told to end when the servers are over: net/http
// does not wait for them.
const goodbyes = 3 * time.Second

// afterGoodbyes waits for them.
func afterGoodbyes(g *guard.Guard) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyes)
	defer cancel()
	untilAlone(ctx, g)
}

// A keeper runs the jobs that write the files of this router, of which only one
// process may run them. Its methods are not called at the same time.
type keeper struct {
	parent context.Context
	jobs   func(*run.Group)
	group  *run.Group // nil while another process has the files
}

// TakeBack implements handover.Keeper.
func (k *keeper) TakeBack() {
	k.group = run.NewGroup(k.parent)
	k.jobs(k.group)
}

// LetGo implements handover.Keeper: the files are as they were last.
func (k *keeper) LetGo() {
	if k.group != nil {
		k.group.Stop()
		_ = k.group.Wait() // they log what fails
		k.group = nil
	}
}

package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
)

// Policy is what a Follower keeps up to date; *overlay.Engine is one.
type Policy interface {
	// Apply makes changes, all or none.
	Apply(changes []overlay.Change) error

	// Replace makes the policy that of the changes, which are additions.
	Replace(changes []overlay.Change) error
}

var _ Policy = (*overlay.Engine)(nil)

// retry is how long a follower waits before it watches anew.
const retry = time.Second

// Follower keeps a policy that of a store, within a scope. Its methods may be called from any goroutine.
type Follower struct {
	s        Store
	p        Policy
	revision atomic.Uint64

	mu    sync.Mutex
	scope []overlay.RDID
	w     Watcher
}

// NewFollower returns a follower with an empty scope.
func NewFollower(s Store, p Policy) *Follower { return &Follower{s: s, p: p} }

// SetScope sets the virtual networks to follow: those that the host has VMs in.
func (f *Follower) SetScope(scope ...overlay.RDID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scope = slices.Clone(scope)
	if f.w != nil {
		_ = f.w.SetScope(scope...) // a watcher that has failed is replaced, with the scope
	}
}

// Revision returns the revision that the policy has; 0 before the first snapshot.
func (f *Follower) Revision() uint64 { return f.revision.Load() }

// Run follows the store until ctx ends, and returns its error. While the store cannot be reached the
// policy stays as it is, and failed, if it is not nil, is told why; every second there is another try. It
// is also told when the policy refuses an event; a snapshot is taken then.
func (f *Follower) Run(ctx context.Context, failed func(error)) error {
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if failed != nil {
			failed(err)
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow returns when the watch fails.
func (f *Follower) follow(ctx context.Context) error {
	w, err := f.watch(ctx)
	if err != nil {
		return err
	}
	defer func() {
		f.mu.Lock()
		f.w = nil
		f.mu.Unlock()
		_ = w.Close()
	}()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if e.Snapshot {
			err = f.p.Replace(e.Changes)
		} else {
			err = f.p.Apply(e.Changes)
		}
		if err != nil {
			return err
		}
		f.revision.Store(e.Revision)
	}
}

func (f *Follower) watch(ctx context.Context) (Watcher, error) {
	f.mu.Lock()
	scope := f.scope
	f.mu.Unlock()
	w, err := f.s.Watch(ctx, scope...)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.w = w
	if !slices.Equal(scope, f.scope) { // it has changed meanwhile
		err = w.SetScope(f.scope...)
	}
	if err != nil {
		f.w = nil
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

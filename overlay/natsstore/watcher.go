package natsstore

import (
	"context"
	"maps"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
)

// maxPending is how many changes a watcher may be behind before it gets a snapshot instead.
const maxPending = 1 << 16

// watcher follows a Store, whose lock is its own too.
type watcher struct {
	s        *Store
	scope    map[overlay.RDID]struct{} // of the events so far
	wanted   map[overlay.RDID]struct{} // as it was set
	settled  bool                      // scope is as wanted, and its domains are ready
	events   []store.Event
	pending  int // changes in events
	resync   bool
	revision uint64 // of the last event
	err      error  // final
	ready    chan struct{}
}

// Watch implements store.Store. It does not wait for the server: the first Next does.
func (s *Store) Watch(ctx context.Context, scope ...overlay.RDID) (store.Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	w := &watcher{s: s, ready: make(chan struct{}, 1), resync: true}
	s.all[w] = struct{}{}
	w.want(scope)
	return w, nil
}

func (w *watcher) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// want sets what the scope is to become.
func (w *watcher) want(scope []overlay.RDID) {
	wanted := map[overlay.RDID]struct{}{}
	for _, id := range scope {
		if !id.IsZero() {
			wanted[id] = struct{}{}
		}
	}
	old := w.wanted
	w.wanted = wanted
	for id := range wanted {
		w.s.wants(id).watchers[w] = struct{}{}
	}
	for id := range old {
		w.drop(id)
	}
	w.settled = false
	w.s.waiting[w] = struct{}{}
	w.settle()
}

// drop leaves a network that is neither in scope nor wanted.
func (w *watcher) drop(id overlay.RDID) {
	if _, ok := w.scope[id]; ok {
		return
	}
	if _, ok := w.wanted[id]; ok {
		return
	}
	if d := w.s.r.domains[id]; d != nil {
		delete(d.watchers, w)
	}
}

// settle makes the scope as wanted once all of it is ready.
func (w *watcher) settle() {
	s := w.s
	for id := range w.wanted {
		if d := s.r.domains[id]; d == nil || !d.ready {
			return
		}
	}
	delete(s.waiting, w)
	w.settled = true
	old := w.scope
	w.scope = maps.Clone(w.wanted)
	if s.r.revision < w.revision {
		w.fail(ErrRestored)
		return
	}
	var changes []overlay.Change
	if !w.resync {
		for id := range old {
			if _, ok := w.scope[id]; !ok {
				changes = s.r.domains[id].of(changes, true)
			}
		}
		for id := range w.scope {
			if _, ok := old[id]; !ok {
				changes = s.r.domains[id].of(changes, false)
			}
		}
	}
	for id := range old {
		w.drop(id)
	}
	w.push(s.r.revision, changes)
	w.wake()
}

// lost makes the next event a snapshot, of domains that are not there yet.
func (w *watcher) lost() {
	w.events, w.pending, w.resync, w.settled, w.scope = nil, 0, true, false, nil
	w.s.waiting[w] = struct{}{}
}

func (w *watcher) push(revision uint64, changes []overlay.Change) {
	if w.resync || len(changes) == 0 {
		return // the snapshot will have it
	}
	if w.pending += len(changes); w.pending > maxPending {
		w.events, w.pending, w.resync = nil, 0, true
	} else {
		w.events = append(w.events, store.Event{Revision: revision, Changes: changes})
	}
	w.wake()
}

// Next implements store.Watcher.
func (w *watcher) Next(ctx context.Context) (store.Event, error) {
	for {
		if e, ok, err := w.next(); ok || err != nil {
			return e, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return store.Event{}, ctx.Err()
		}
	}
}

func (w *watcher) next() (e store.Event, ok bool, err error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.closed {
		w.fail(store.ErrClosed)
	}
	switch {
	case w.err != nil:
		w.wake() // also whoever waits beside
		return e, false, w.err
	case w.resync && w.settled:
		w.resync = false
		e = store.Event{Revision: w.s.r.revision, Snapshot: true}
		for id := range w.scope {
			e.Changes = w.s.r.domains[id].of(e.Changes, false)
		}
	case len(w.events) > 0:
		e = w.events[0]
		w.events[0] = store.Event{}
		w.events = w.events[1:]
		w.pending -= len(e.Changes)
	default:
		return e, false, nil
	}
	w.revision = e.Revision
	return e, true, nil
}

// SetScope implements store.Watcher. Until the server has sent what enters the scope, events are those of
// the old one.
func (w *watcher) SetScope(scope ...overlay.RDID) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.closed {
		return store.ErrClosed
	}
	if w.err == nil {
		w.want(scope)
	}
	return w.err
}

// fail ends the watch.
func (w *watcher) fail(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	delete(w.s.all, w)
	delete(w.s.waiting, w)
	scope, wanted := w.scope, w.wanted
	w.scope, w.wanted, w.events = nil, nil, nil
	for id := range scope {
		w.drop(id)
	}
	for id := range wanted {
		w.drop(id)
	}
	w.wake()
}

// Close implements store.Watcher.
func (w *watcher) Close() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.fail(store.ErrClosed)
	return nil
}

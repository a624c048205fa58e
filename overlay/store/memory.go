package store

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/hvswitch/hvswitch/overlay"
)

// Memory is a Store in the memory of the process.
type Memory struct {
	mu       sync.Mutex
	closed   bool
	revision uint64
	subnets  map[overlay.VSID]*overlay.Subnet
	records  map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord
	routes   map[overlay.RDID]map[overlay.Key]*overlay.CustomerRoute
	networks map[overlay.RDID]map[overlay.VSID]struct{} // subnets of each
	watchers map[overlay.RDID]map[*watcher]struct{}
	all      map[*watcher]struct{}
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		subnets:  map[overlay.VSID]*overlay.Subnet{},
		records:  map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord{},
		routes:   map[overlay.RDID]map[overlay.Key]*overlay.CustomerRoute{},
		networks: map[overlay.RDID]map[overlay.VSID]struct{}{},
		watchers: map[overlay.RDID]map[*watcher]struct{}{},
		all:      map[*watcher]struct{}{},
	}
}

// Close ends the store and all its watchers. A second call does nothing and returns nil.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for w := range m.all {
		w.wake()
	}
	return nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, changes []overlay.Change) (revision uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for i := range changes {
		if err := changes[i].Validate(); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	m.revision++
	t := transaction{m: m, steps: map[overlay.RDID][]step{}}
	for i := range changes {
		t.change(&changes[i])
	}
	t.publish()
	return m.revision, nil
}

// transaction collects what a commit means to each virtual network.
type transaction struct {
	m     *Memory
	n     int
	steps map[overlay.RDID][]step
}

// step is a change and its place in the transaction.
type step struct {
	n int
	overlay.Change
}

func (t *transaction) add(id overlay.RDID, c overlay.Change) {
	t.n++
	t.steps[id] = append(t.steps[id], step{t.n, c})
}

func (t *transaction) change(c *overlay.Change) {
	m := t.m
	k := c.Key()
	switch {
	case c.Record != nil:
		v := c.Record.VSID
		r := *c.Record
		if c.Delete {
			delete(m.records[v], k)
			if len(m.records[v]) == 0 {
				delete(m.records, v)
			}
		} else {
			if m.records[v] == nil {
				m.records[v] = map[overlay.Key]*overlay.LookupRecord{}
			}
			m.records[v][k] = &r
		}
		if s := m.subnets[v]; s != nil {
			t.add(s.RDID, overlay.Change{Record: &r, Delete: c.Delete})
		}
	case c.Route != nil:
		r := *c.Route
		if c.Delete {
			delete(m.routes[r.RDID], k)
			if len(m.routes[r.RDID]) == 0 {
				delete(m.routes, r.RDID)
			}
		} else {
			if m.routes[r.RDID] == nil {
				m.routes[r.RDID] = map[overlay.Key]*overlay.CustomerRoute{}
			}
			m.routes[r.RDID][k] = &r
		}
		t.add(r.RDID, overlay.Change{Route: &r, Delete: c.Delete})
	case c.Subnet != nil:
		t.subnet(c)
	}
}

// subnet adds or removes a subnet, and with it its records to or from the scope of its network.
func (t *transaction) subnet(c *overlay.Change) {
	m := t.m
	s := *c.Subnet
	old := m.subnets[s.VSID]
	stays := old != nil && !c.Delete && old.RDID == s.RDID
	if old != nil && !stays {
		for _, r := range m.records[s.VSID] {
			t.add(old.RDID, overlay.Change{Record: r, Delete: true})
		}
		t.add(old.RDID, overlay.Change{Subnet: old, Delete: true})
		delete(m.subnets, s.VSID)
		delete(m.networks[old.RDID], s.VSID)
		if len(m.networks[old.RDID]) == 0 {
			delete(m.networks, old.RDID)
		}
	}
	if c.Delete {
		return
	}
	m.subnets[s.VSID] = &s
	if m.networks[s.RDID] == nil {
		m.networks[s.RDID] = map[overlay.VSID]struct{}{}
	}
	m.networks[s.RDID][s.VSID] = struct{}{}
	t.add(s.RDID, overlay.Change{Subnet: &s})
	if !stays {
		for _, r := range m.records[s.VSID] {
			t.add(s.RDID, overlay.Change{Record: r})
		}
	}
}

// publish gives each watcher what is in its scope.
func (t *transaction) publish() {
	concerned := map[*watcher][]step{}
	for id, steps := range t.steps {
		for w := range t.m.watchers[id] {
			if before, ok := concerned[w]; ok {
				concerned[w] = append(slices.Clip(before), steps...)
			} else {
				concerned[w] = steps
			}
		}
	}
	for w, steps := range concerned {
		if len(t.steps) > 1 {
			steps = slices.Clone(steps)
			slices.SortFunc(steps, func(a, b step) int { return a.n - b.n })
		}
		changes := make([]overlay.Change, len(steps))
		for i := range steps {
			changes[i] = steps[i].Change
		}
		w.push(changes)
	}
}

// of appends the policy of a virtual network, as additions or removals.
func (m *Memory) of(out []overlay.Change, id overlay.RDID, remove bool) []overlay.Change {
	for _, r := range m.routes[id] {
		out = append(out, overlay.Change{Route: r, Delete: remove})
	}
	for v := range m.networks[id] {
		out = append(out, overlay.Change{Subnet: m.subnets[v], Delete: remove})
		for _, r := range m.records[v] {
			out = append(out, overlay.Change{Record: r, Delete: remove})
		}
	}
	return out
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, scope ...overlay.RDID) (Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	w := &watcher{m: m, scope: map[overlay.RDID]struct{}{}, ready: make(chan struct{}, 1), resync: true}
	m.all[w] = struct{}{}
	for _, id := range scope {
		w.follow(id)
	}
	return w, nil
}

// maxPending is how many changes a watcher may be behind before it gets a snapshot instead.
const maxPending = 1 << 16

// watcher follows a Memory, whose lock is its own too.
type watcher struct {
	m       *Memory
	scope   map[overlay.RDID]struct{}
	events  []Event
	pending int // changes in events
	resync  bool
	closed  bool
	ready   chan struct{}
}

func (w *watcher) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) push(changes []overlay.Change) {
	if w.resync || len(changes) == 0 {
		return // the snapshot will have it
	}
	if w.pending += len(changes); w.pending > maxPending {
		w.events, w.pending, w.resync = nil, 0, true
	} else {
		w.events = append(w.events, Event{Revision: w.m.revision, Changes: changes})
	}
	w.wake()
}

func (w *watcher) follow(id overlay.RDID) {
	w.scope[id] = struct{}{}
	if w.m.watchers[id] == nil {
		w.m.watchers[id] = map[*watcher]struct{}{}
	}
	w.m.watchers[id][w] = struct{}{}
}

func (w *watcher) leave(id overlay.RDID) {
	delete(w.scope, id)
	delete(w.m.watchers[id], w)
	if len(w.m.watchers[id]) == 0 {
		delete(w.m.watchers, id)
	}
}

// Next implements Watcher.
func (w *watcher) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok, err := w.next(); ok || err != nil {
			return e, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (w *watcher) next() (e Event, ok bool, err error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	switch {
	case w.closed || w.m.closed:
		w.wake() // also whoever waits beside
		return e, false, ErrClosed
	case w.resync:
		w.resync = false
		e = Event{Revision: w.m.revision, Snapshot: true}
		for id := range w.scope {
			e.Changes = w.m.of(e.Changes, id, false)
		}
		return e, true, nil
	case len(w.events) > 0:
		e = w.events[0]
		w.events[0] = Event{}
		w.events = w.events[1:]
		w.pending -= len(e.Changes)
		return e, true, nil
	}
	return e, false, nil
}

// SetScope implements Watcher.
func (w *watcher) SetScope(scope ...overlay.RDID) error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if w.closed || w.m.closed {
		return ErrClosed
	}
	var changes []overlay.Change
	for _, id := range slices.Collect(maps.Keys(w.scope)) {
		if !slices.Contains(scope, id) {
			changes = w.m.of(changes, id, true)
			w.leave(id)
		}
	}
	for _, id := range scope {
		if _, ok := w.scope[id]; !ok {
			w.follow(id)
			changes = w.m.of(changes, id, false)
		}
	}
	w.push(changes)
	return nil
}

// Close implements Watcher.
func (w *watcher) Close() error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if !w.closed {
		w.closed = true
		for id := range maps.Clone(w.scope) {
			w.leave(id)
		}
		delete(w.m.all, w)
		w.events = nil
		w.wake()
	}
	return nil
}

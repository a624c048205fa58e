package team

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team/lacp"
)

const never = time.Duration(math.MaxInt64)

// ErrNoMember is the error of Remove when the team has no member of that name.
var ErrNoMember = errors.New("no such member")

// Team is a backend made of others. Its methods may be called from any goroutine, those of a queue from
// one at a time.
//
// Its link is up while a member is in use, and as fast as all that are. The number of its queues is the
// sum of those of the members it begins with in mode SwitchIndependent with HyperVPort or Dynamic, else
// that of the member with the fewest. Its MTU is the smallest, its offloads are those that all have.
// These stay, whatever members are added or removed.
//
// A frame that cannot be delivered because its member fails counts as sent, and is counted as dropped. A
// member whose Recv returns an error is not used any more.
type Team struct {
	cfg    Config
	info   ports.Info
	start  time.Time
	snap   atomic.Pointer[snapshot]
	vnics  vnics
	direct *direct // of a pair, else nil
	rx     []*rxQueue
	tx     []*txQueue

	announced atomic.Uint64
	moved     atomic.Uint64

	watch  atomic.Pointer[func(ports.Link)]
	kicked chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu            sync.Mutex
	members       [MaxMembers]*member // by slot
	order         []*member           // as they were added: the first in use is the primary
	spread        spread
	agg           *lacp.Aggregator // in mode LACP
	partner       lacp.SystemID
	announcements []announcement
	refreshAt     time.Duration
	link, told    ports.Link
	failovers     uint64
	closed        bool
}

var (
	_ ports.Backend     = &Team{}
	_ ports.LinkWatcher = &Team{}
)

// New makes a team of 1–32 members, which are the team's from then on: Close closes them. After an error
// they are the caller's as before.
//
// Errors name the team, the member, the field and the reason.
func New(members []Member, cfg *Config) (*Team, error) {
	c := Config{}
	if cfg != nil {
		c = *cfg
	}
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	if len(members) < 1 || len(members) > MaxMembers {
		return nil, fmt.Errorf("team %q: %d members are out of 1–%d", c.Name, len(members), MaxMembers)
	}
	t := &Team{
		cfg: c, start: time.Now(), spread: newSpread(),
		kicked: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	t.vnics.init()
	t.refreshAt = refreshEvery
	bells := true
	for i := range members {
		m, err := t.enlist(&members[i])
		if err != nil {
			return nil, err
		}
		has, _ := kindOf(m.backend)
		bells = bells && has
	}
	if c.Standby != "" && !slices.ContainsFunc(t.order, func(m *member) bool { return m.standby }) {
		return nil, fmt.Errorf("team %q: Standby %q is no member", c.Name, c.Standby)
	}
	if c.Standby != "" && len(members) == 1 {
		return nil, fmt.Errorf("team %q: Standby %q is the only member", c.Name, c.Standby)
	}
	t.describe()
	if err := t.setUpLACP(); err != nil {
		return nil, err
	}
	if err := t.makeQueues(bells); err != nil {
		return nil, err
	}
	s := &snapshot{primary: nobody, wasPrimary: nobody, changed: -time.Hour}
	for b := range s.at {
		s.at[b] = nobody
	}
	t.snap.Store(s)
	for _, m := range t.order {
		t.watchMember(m)
	}
	t.mu.Lock()
	t.update()
	t.told = t.link
	t.mu.Unlock()
	go t.run()
	return t, nil
}

// enlist gives a new member a slot.
func (t *Team) enlist(cfg *Member) (*member, error) {
	if cfg.Backend == nil {
		return nil, fmt.Errorf("team %q: member %q: Backend is nil", t.cfg.Name, cfg.Name)
	}
	m := newMember(cfg)
	slot := slices.Index(t.members[:], nil)
	if slot < 0 {
		return nil, fmt.Errorf("team %q: member %q: there are %d already", t.cfg.Name, m.name, MaxMembers)
	}
	if m.name == "" {
		m.name = strconv.Itoa(slot + 1)
	}
	m.slot, m.priority = uint8(slot), cfg.Priority
	m.standby = m.name == t.cfg.Standby
	if err := t.checkMember(m); err != nil {
		return nil, err
	}
	if _, err := kindOf(m.backend); err != nil {
		return nil, fmt.Errorf("team %q: member %q: Backend %w", t.cfg.Name, m.name, err)
	}
	t.members[slot] = m
	t.order = append(t.order, m)
	return m, nil
}

// describe fills in Info.
func (t *Team) describe() {
	i := &t.info
	i.Name, i.MAC = t.cfg.Name, t.cfg.MAC
	if i.MAC.IsZero() {
		i.MAC = t.order[0].mac
	}
	i.MTU, i.Offloads = math.MaxInt, ports.OffloadAll
	rx, tx := math.MaxInt, math.MaxInt
	rxSum, txSum := 0, 0
	for _, m := range t.order {
		i.MTU = min(i.MTU, m.info.MTU)
		i.Offloads &= m.info.Offloads
		rx, tx = min(rx, m.info.RxQueues), min(tx, m.info.TxQueues)
		rxSum, txSum = rxSum+m.info.RxQueues, txSum+m.info.TxQueues
	}
	if t.cfg.sums() {
		rx, tx = rxSum, txSum
	}
	i.RxQueues, i.TxQueues = rx, tx
	if t.cfg.pair {
		t.describePair()
	}
}

// makeQueues makes the team's queues and assigns those of the members to them.
func (t *Team) makeQueues(bells bool) error {
	for i := range t.info.TxQueues {
		t.tx = append(t.tx, newTxQueue(t, i))
	}
	fail := func(err error) error {
		for _, m := range t.order {
			t.unassign(m)
		}
		for _, q := range t.rx {
			if q.fds != nil {
				q.fds.close()
			}
		}
		return fmt.Errorf("team %q: %w", t.cfg.Name, err)
	}
	for range t.info.RxQueues {
		q := &rxQueue{team: t}
		q.released.L = &q.mu
		if !bells {
			var err error
			if q.fds, err = newFDSet(); err != nil {
				return fail(err)
			}
		}
		t.rx = append(t.rx, q)
	}
	for _, m := range t.order {
		if err := t.assign(m); err != nil {
			return fail(fmt.Errorf("member %q: Backend %w", m.name, err))
		}
	}
	return nil
}

// assign gives each receive queue of a member to the queue of the team that has the fewest: as those of
// a member differ, none gets two of it while another has none.
func (t *Team) assign(m *member) error {
	load := make([]int, len(t.rx))
	for i, q := range t.rx {
		load[i] = len(q.sources)
	}
	if !t.cfg.sums() {
		clear(load) // queue i of each member together
	}
	for i := range m.info.RxQueues {
		to := 0
		for j := range load {
			if load[j] < load[to] {
				to = j
			}
		}
		load[to]++
		if err := t.rx[to].add(&source{m: m, rx: m.backend.Rx(i)}); err != nil {
			t.unassign(m)
			return err
		}
	}
	return nil
}

// unassign takes the member's receive queues away from the team's. It waits until what they have lent has
// been released.
func (t *Team) unassign(m *member) {
	for _, q := range t.rx {
		q.mu.Lock()
		for slices.ContainsFunc(q.sources, func(src *source) bool { return src.m == m && src.lent }) {
			q.released.Wait()
		}
		q.sources = slices.DeleteFunc(q.sources, func(src *source) bool {
			if src.m != m {
				return false
			}
			if !src.dead {
				q.ignore(src)
			}
			return true
		})
		q.mu.Unlock()
	}
}

// Info implements ports.Backend.
func (t *Team) Info() ports.Info { return t.info }

// Rx implements ports.Backend. The queues implement ports.Notifier when those of all members that the
// team began with do, else ports.Pollable.
func (t *Team) Rx(i int) ports.RxQueue {
	if q := t.rx[i]; q.fds != nil {
		return fdQueue{q}
	} else {
		return bellQueue{q}
	}
}

// Tx implements ports.Backend.
func (t *Team) Tx(i int) ports.TxQueue { return t.tx[i] }

// Link implements ports.LinkWatcher.
func (t *Team) Link() ports.Link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link
}

// WatchLink implements ports.LinkWatcher.
func (t *Team) WatchLink(changed func(ports.Link)) {
	if changed == nil {
		t.watch.Store(nil)
		return
	}
	t.watch.Store(&changed)
}

// Add makes a backend a member while frames flow; it is the team's from then on, unless there is an error.
// It must carry frames as long, and accept the offload requests, that Info promises. A team whose members
// are all in memory takes no backend that has descriptors.
func (t *Team) Add(m Member) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("team %q: %w", t.cfg.Name, ports.ErrClosed)
	}
	n, err := t.enlist(&m)
	if err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		t.strike(n)
		return fmt.Errorf("team %q: member %q: %w", t.cfg.Name, n.name, fmt.Errorf(format, args...))
	}
	switch {
	case n.info.MTU < t.info.MTU:
		return fail("MTU %d is less than the %d of the team", n.info.MTU, t.info.MTU)
	case t.info.Offloads&^n.info.Offloads != 0:
		return fail("Offloads %#x lack %#x of the team", n.info.Offloads, t.info.Offloads&^n.info.Offloads)
	}
	if t.agg != nil {
		if err := t.addPort(n); err != nil {
			return fail("%w", err)
		}
		t.limitPorts()
	}
	if err := t.assign(n); err != nil {
		if n.port != nil {
			t.agg.RemovePort(t.clock(), n.port)
			defer t.limitPorts()
		}
		return fail("Backend %w", err)
	}
	t.watchMember(n)
	t.update()
	t.kick()
	return nil
}

func (t *Team) strike(m *member) {
	t.members[m.slot] = nil
	t.order = slices.DeleteFunc(t.order, func(o *member) bool { return o == m })
}

// Remove takes a member out of the team while frames flow, and returns its backend, which is the caller's
// again. It waits until what has been received from it has been released. The last member cannot be
// removed. When the team has the address of the member, it keeps it, so the backend should get another.
// Errors wrap ErrNoMember and ports.ErrClosed.
func (t *Team) Remove(name string) (ports.Backend, error) {
	m, err := t.dismiss(name)
	if err != nil {
		return nil, err
	}
	t.unassign(m)
	m.letGo()
	t.mu.Lock()
	t.members[m.slot] = nil // not before: what it had received was in its name
	t.mu.Unlock()
	return m.backend, nil
}

// dismiss sees to it that a member is used no more, but for what it has received.
func (t *Team) dismiss(name string) (*member, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("team %q: %w", t.cfg.Name, ports.ErrClosed)
	}
	i := slices.IndexFunc(t.order, func(m *member) bool { return m.name == name })
	if i < 0 {
		return nil, fmt.Errorf("team %q: member %q: %w", t.cfg.Name, name, ErrNoMember)
	}
	if len(t.order) == 1 {
		return nil, fmt.Errorf("team %q: member %q is the only one", t.cfg.Name, name)
	}
	m := t.order[i]
	if w, ok := m.backend.(ports.LinkWatcher); ok {
		w.WatchLink(nil)
	}
	t.order = slices.Delete(t.order, i, i+1)
	if m.port != nil {
		t.agg.RemovePort(t.clock(), m.port)
		t.limitPorts()
	}
	t.update()
	t.kick()
	return m, nil
}

// Forget makes the team forget an address that was behind it, such as that of a guest that has been moved
// to another host: it is not announced any more, and its frames are not taken for reflections. Without it
// that is so a second after its last frame, and when it is next heard of from outside.
func (t *Team) Forget(address ports.MAC) { t.vnics.forget(addressOfMAC(address)) }

// Close implements ports.Backend. It closes the members.
func (t *Team) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		<-t.done
		return nil
	}
	t.closed = true
	s := *t.snap.Load()
	s.closed = true
	t.snap.Store(&s)
	close(t.stop)
	members := slices.Clone(t.order)
	t.link = ports.Link{}
	t.mu.Unlock()
	<-t.done

	var errs []error
	for _, m := range members {
		if w, ok := m.backend.(ports.LinkWatcher); ok {
			w.WatchLink(nil)
		}
		m.letGo()
	}
	for _, q := range t.rx {
		q.mu.Lock()
		for _, src := range q.sources {
			if !src.dead {
				q.ignore(src)
			}
		}
		q.sources = nil
		q.released.Broadcast()
		if q.fds != nil {
			q.fds.close()
		}
		q.mu.Unlock()
	}
	for _, m := range members {
		if err := m.backend.Close(); err != nil {
			errs = append(errs, fmt.Errorf("team %q: member %q: %w", t.cfg.Name, m.name, err))
		}
	}
	for _, q := range t.rx {
		q.bell.ring()
	}
	t.tellLink(ports.Link{})
	return errors.Join(errs...)
}

func (t *Team) clock() time.Duration { return time.Since(t.start) }

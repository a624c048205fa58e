package team

import (
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// PairConfig describes a Pair. A nil *PairConfig means the defaults.
type PairConfig struct {
	Name string // for errors and Info

	// MAC is the address of the guest's NIC; default is that of the primary.
	MAC ports.MAC

	// UpDelay is as in Config: how long the link of the primary must have been up before it is used again.
	UpDelay time.Duration
}

// Pair is one NIC of a guest with two paths: the primary, which passes the virtual switch by, and the standby, which
// leads through it (as Linux's net_failover). Frames leave by the primary while its link is up, else by the standby.
// The link is up while that of either is. Whenever another path comes into use, RARP requests from the addresses that
// the guest has sent from tell the switches.
//
// Frames arrive by both paths. While the primary is in use, the standby brings what stations on its virtual switch
// send to the guest. Copies of what the primary brings are dropped: all frames to groups, for both paths are in one
// broadcast domain, and those of stations that were heard by the primary within the last second or so. For some
// milliseconds after the other path has come into use, frames to groups that may have been taken before are dropped,
// and when it is the primary nothing is sent for a millisecond, so that what is under way is not overtaken.
//
// A Pair has as many queues as the path with more, the smaller MTU, and the offloads of both. Its methods may be called
// from any goroutine, those of a queue from one at a time.
type Pair struct {
	team *Team
}

var (
	_ ports.Backend     = &Pair{}
	_ ports.LinkWatcher = &Pair{}
)

const (
	pairPrimary = "primary"
	pairStandby = "standby"
)

// NewPair joins two paths, which are the pair's from then on: Close closes them. After an error they are the caller's
// as before.
func NewPair(primary, standby ports.Backend, cfg *PairConfig) (*Pair, error) {
	c := PairConfig{}
	if cfg != nil {
		c = *cfg
	}
	t, err := New([]Member{{Name: pairPrimary, Backend: primary}, {Name: pairStandby, Backend: standby}}, &Config{
		Name: c.Name, MAC: c.MAC, UpDelay: c.UpDelay,
		Distribution: HyperVPort, Speeds: Weighted, Standby: pairStandby, pair: true,
	})
	if err != nil {
		return nil, err
	}
	return &Pair{t}, nil
}

// Info implements ports.Backend.
func (p *Pair) Info() ports.Info { return p.team.Info() }

// Rx implements ports.Backend. The queues implement ports.Notifier when those of both paths do, else ports.Pollable.
func (p *Pair) Rx(i int) ports.RxQueue { return p.team.Rx(i) }

// Tx implements ports.Backend.
func (p *Pair) Tx(i int) ports.TxQueue { return p.team.Tx(i) }

// Link implements ports.LinkWatcher. The speed is that of the path in use.
func (p *Pair) Link() ports.Link { return p.team.Link() }

// WatchLink implements ports.LinkWatcher.
func (p *Pair) WatchLink(changed func(ports.Link)) { p.team.WatchLink(changed) }

// Close implements ports.Backend. It closes both paths.
func (p *Pair) Close() error { return p.team.Close() }

// Unplug takes the primary away while frames flow, as before its VM is moved to another host, and returns it: it is
// the caller's again. The standby is used at once. Unplug waits until what has been received by the primary has been
// released. Errors wrap ErrNoMember, when there is no primary, and ports.ErrClosed.
func (p *Pair) Unplug() (ports.Backend, error) { return p.team.Remove(pairPrimary) }

// Plug makes a backend the primary of a pair that has none; it is the pair's from then on, unless there is an error. It
// must carry frames as long, and accept the offload requests, that Info promises.
func (p *Pair) Plug(primary ports.Backend) error {
	return p.team.Add(Member{Name: pairPrimary, Backend: primary})
}

// PrimaryInUse reports whether frames leave by the primary.
func (p *Pair) PrimaryInUse() bool {
	s := p.team.snap.Load()
	return s.primary != nobody && !s.slots[s.primary].standby
}

// Stats returns the counters of the team of "primary" and "standby" that the pair is.
func (p *Pair) Stats() Stats { return p.team.Stats() }

// direct are the stations that a pair hears by its primary.
type direct struct{ vnics }

// copied judges a frame by its path: whether it is one of those of which the primary brings a copy.
func (d *direct) copied(s *snapshot, m *member, dst, key uint64, tick uint32) bool {
	switch {
	case s.pin(dst) == m.slot:
		if !m.standby && !isGroup(dst) {
			d.touch(key, 0, tick)
		}
		return false
	case !m.standby: // what it has from when it was in use could be overtaken
		return true
	}
	return isGroup(dst) || d.within(key, tick, reflectTicks)
}

// describePair fills in the numbers of queues.
func (t *Team) describePair() {
	for _, m := range t.order {
		t.info.RxQueues = max(t.info.RxQueues, m.info.RxQueues)
		t.info.TxQueues = max(t.info.TxQueues, m.info.TxQueues)
	}
	t.direct = new(direct)
	t.direct.init()
}

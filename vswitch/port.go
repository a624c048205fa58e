package vswitch

import (
	"fmt"
	"sync/atomic"

	"github.com/hvswitch/hvswitch/internal/guard"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// port is where a backend is plugged into a switch: its queues, its link and its counters.
type port struct {
	name       string // of the vNIC or NIC
	index      int    // in the tables of the switch
	sw         *Switch
	backend    ports.Backend
	info       ports.Info
	rx         []*rxQueue
	tx         []*txQueue
	up         atomic.Bool
	speed      atomic.Uint64
	linkEvents atomic.Uint64 // that refreshLink has not seen to
	count      *counters
	errors     atomic.Uint64                // times the backend refused a frame for a reason of its own
	ping       atomic.Pointer[overlay.Ping] // of the vNIC, while there is one
}

// portView is a port with its settings as a snapshot shows them.
type portView struct {
	*port
	ingress []stage
	self    *extension.Port    // as extensions know the port
	program *extension.Program // nil when no extension sees its frames

	mac          uint64 // as loaded; 0 for the uplink
	maxLen       int    // longest frame without its tag, bytes
	vlan         vlan.Mode
	keepPriority bool // of what the port sends
	priorityTag  bool // tell the port the priority of untagged frames
	spoofing     bool
	team         *guestTeam     // that the guest makes of it and others; nil without
	guard        *guard.Program // nil without guards
	addresses    *guard.Limit   // of the guest; nil without a limit
	storm        *guard.Storm   // nil without a limit
	acl          *acl.Policy    // nil without rules
	connections  *acl.State     // with acl
	judgedIn     bool           // the ACL has a say in what the port receives
	rss          *rss           // nil without
	passThrough  bool           // its address is used behind the uplink too
	mirror       MirrorRole
	mirrorTag    bool
	saved        map[string][]byte // for the extensions
	maximum      *maximum          // of what the vNIC sends; nil without
	bandwidth    Bandwidth
	scheduler    *scheduler    // of an uplink; nil when it does not divide its bandwidth
	vsid         overlay.VSID  // of the virtual subnet of the vNIC; 0 when it is in a VLAN
	tenant       *overlay.Port // its place there
	overlay      *overlayOf    // of the switch; of an uplink and of vNICs in virtual subnets only
	injected     bool          // nobody's port: extensions send from it
	protected    bool
	blockUnknown bool
	hairpin      bool
	maxAddresses int
}

// trunk reports whether the port carries several VLANs.
func (p *portView) trunk() bool { return p.vlan.Kind() == vlan.KindTrunk }

// maxQueues bounds the queues of a backend in each direction; virtio-net has as many pairs at most.
const maxQueues = 1 << 15

// newPort makes a port for b on s. It is not part of a snapshot and nobody serves it yet.
func newPort(s *Switch, name string, b ports.Backend, count *counters) (*port, error) {
	info := b.Info()
	if info.RxQueues < 1 || info.RxQueues > maxQueues || info.TxQueues < 1 || info.TxQueues > maxQueues || info.MTU < 1 || info.MTU > 65535 {
		return nil, fmt.Errorf("backend reports %d receive queues, %d transmit queues and MTU %d: %w",
			info.RxQueues, info.TxQueues, info.MTU, ErrInvalid)
	}
	p := &port{name: name, sw: s, backend: b, info: info, count: count}
	for i := range info.RxQueues {
		p.rx = append(p.rx, &rxQueue{rx: b.Rx(i), port: p, index: i, number: s.host.nextQueue()})
	}
	for i := range info.TxQueues {
		p.tx = append(p.tx, &txQueue{tx: b.Tx(i)})
	}
	return p, nil
}

// watchLink makes the port follow the link of its backend.
func (p *port) watchLink() {
	if w, ok := p.backend.(ports.LinkWatcher); ok {
		w.WatchLink(func(ports.Link) { p.refreshLink() })
	}
	p.refreshLink()
}

// refreshLink asks the backend for the state of its link. It does not take it from the event, which
// may be overtaken by a later one. One goroutine at a time asks, and again when another event comes
// meanwhile, so that changes are told in their order.
func (p *port) refreshLink() {
	if p.linkEvents.Add(1) > 1 {
		return
	}
	for seen := uint64(1); ; seen = p.linkEvents.Load() {
		l := ports.LinkOf(p.backend)
		if p.speed.Swap(l.Speed) != l.Speed {
			p.sw.speedChanged(p)
		}
		if p.up.Swap(l.Up) != l.Up {
			p.sw.host.log.Info("link changed", "switch", p.sw.name, "port", p.name, "up", l.Up, "speed", l.Speed)
			if !l.Up {
				p.sw.flushPort(p.index) // stations there may be reached by another port now
			}
			p.sw.uplinkChanged(p, l.Up)
		}
		if p.linkEvents.CompareAndSwap(seen, 0) {
			return
		}
	}
}

func (p *port) unwatchLink() {
	if w, ok := p.backend.(ports.LinkWatcher); ok {
		w.WatchLink(nil)
	}
}

// attach gives the queues of the port to workers, who leave them alone until the port is part of a
// snapshot.
func (p *port) attach() error {
	for _, q := range p.rx {
		if err := p.sw.host.idlest().attach(q); err != nil {
			return err
		}
	}
	return nil
}

// start has the queues polled for what came before the port was part of a snapshot.
func (p *port) start() {
	for _, q := range p.rx {
		q.worker.ring(q)
	}
}

// detach takes the queues from the workers. They are not in use any more after Host.synchronize.
func (p *port) detach() {
	for _, q := range p.rx {
		if q.worker != nil {
			q.worker.detach(q)
		}
	}
}

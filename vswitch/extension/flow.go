package extension

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
)

// Flow is where an IP packet comes from and goes to.
type Flow struct {
	Protocol            uint8 // IANA protocol number
	Source, Destination netip.AddrPort
}

// Flow returns the flow of frame i. It reports false for frames that are not IP or are malformed. The ports are
// 0 where the protocol has none, and for later fragments.
func (b *Batch) Flow(i int) (f Flow, ok bool) {
	f, ok, _ = b.flow(i)
	return f, ok
}

// flow is Flow that tells malformed packets, too.
func (b *Batch) flow(i int) (f Flow, ok, malformed bool) {
	var h header.Header
	fr := b.frames[i]
	head := fr.Head()
	h.Parse(head, fr.Len())
	if h.Reason != header.OK {
		return f, false, h.EtherType != header.EtherTypeARP
	}
	if h.Flags&(header.IPv4|header.IPv6) == 0 {
		return f, false, false
	}
	src, dst := h.Addrs(head)
	f.Protocol = h.Proto
	if h.Flags&header.Ports == 0 {
		h.SrcPort, h.DstPort = 0, 0
	}
	f.Source, f.Destination = netip.AddrPortFrom(src, h.SrcPort), netip.AddrPortFrom(dst, h.DstPort)
	return f, true, false
}

const (
	maxFlows     = 16384           // of one port at one firewall
	flowLifetime = 2 * time.Minute // at least, without a packet
)

// flows remembers what a firewall has said: what was asked for lately, and what was before that.
type flows struct {
	mu      sync.Mutex
	epoch   uint32
	since   time.Duration
	now     map[flowKey]bool
	earlier map[flowKey]bool
}

// flowKey is a flow as seen from the port.
type flowKey struct {
	local, remote netip.AddrPort
	vlan          uint16
	protocol      uint8
}

// keyOf returns the key of frame i, whose flow is f.
func (b *Batch) keyOf(i int, f Flow) flowKey {
	k := flowKey{f.Source, f.Destination, b.frames[i].VLAN.TCI & 0xfff, f.Protocol}
	if b.direction == Egress {
		k.local, k.remote = k.remote, k.local
	}
	return k
}

const (
	deniedReason    = "connection denied"
	malformedReason = "malformed packet"
)

func newFlows() *flows { return &flows{now: map[flowKey]bool{}} }

// find returns what was said of a flow.
func (f *flows) find(k flowKey, epoch uint32, now time.Duration) (allowed, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch != f.epoch {
		f.epoch = epoch
		clear(f.now)
		f.earlier = nil
	}
	if age := now - f.since; age > flowLifetime || len(f.now) >= maxFlows/2 {
		f.now, f.earlier, f.since = map[flowKey]bool{}, f.now, now
		if age > 2*flowLifetime { // even the latest is too old
			f.earlier = nil
		}
	}
	if allowed, known = f.now[k]; known {
		return allowed, true
	}
	if allowed, known = f.earlier[k]; known {
		f.now[k] = allowed
	}
	return allowed, known
}

// peek is find without consequences.
func (f *flows) peek(k flowKey, epoch uint32) (allowed, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch != f.epoch {
		return false, false
	}
	if allowed, known = f.now[k]; !known {
		allowed, known = f.earlier[k]
	}
	return allowed, known
}

func (f *flows) store(k flowKey, allowed bool, epoch uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch == f.epoch {
		f.now[k] = allowed
	}
}

// authorize returns the step of a firewall.
func (st step) authorize(w Firewall) func(*Batch) {
	loaded, flows := st.loaded, st.flows
	return func(b *Batch) {
		epoch := loaded.epoch.Load()
		for i := range b.frames {
			if !b.Alive(i) {
				continue
			}
			f, ok, malformed := b.flow(i)
			if malformed { // nobody can say of which connection
				b.drop(i, malformedReason)
			}
			if !ok {
				continue
			}
			k := b.keyOf(i, f)
			allowed, known := flows.find(k, epoch, b.now)
			if !known {
				allowed = w.Authorize(&Connection{
					Port: b.port, Opener: b.direction, Protocol: k.protocol, VLAN: k.vlan, Local: k.local, Remote: k.remote,
				})
				flows.store(k, allowed, epoch)
			}
			if !allowed {
				b.drop(i, deniedReason)
			}
		}
	}
}

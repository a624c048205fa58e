package overlay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Ping is an ICMP echo request (RFC 792; RFC 4443, section 4.1) whose answer is waited for. Its methods may
// be called from any goroutine.
type Ping struct {
	from, to netip.Addr
	token    uint64 // the data of the request
	once     sync.Once
	answered chan struct{}
}

// NewPing returns a ping from one address to another of the same IP version.
func NewPing(from, to netip.Addr) *Ping {
	return &Ping{from: from, to: to, token: rand.Uint64(), answered: make(chan struct{})}
}

// Answered is closed when there has been an answer.
func (p *Ping) Answered() <-chan struct{} { return p.answered }

// Request returns the request as a frame, with headroom.
func (p *Ping) Request(dst, src ports.MAC) *ports.Frame {
	f := new(ports.Frame)
	p.request(f, make([]byte, ports.Headroom+ports.HeadLen), dst, src)
	return f
}

const pingLen = icmpLen + 8

// request makes f, whose memory is buf, the request.
func (p *Ping) request(f *ports.Frame, buf []byte, dst, src ports.MAC) {
	ipLen := ipv4Len
	if p.to.Is6() {
		ipLen = ipv6Len
	}
	f.SetHead(buf, ports.Headroom, ethernetLen+ipLen+pingLen)
	r := f.Head()
	clear(r)
	copy(r, dst[:])
	copy(r[6:], src[:])
	ip, icmp := r[ethernetLen:], r[ethernetLen+ipLen:]
	binary.BigEndian.PutUint16(icmp[4:], uint16(p.token>>16)) // identifier
	binary.BigEndian.PutUint64(icmp[icmpLen:], p.token)
	if p.to.Is6() {
		copy(ip[8:], p.from.AsSlice())
		copy(ip[24:], p.to.AsSlice())
		icmp[0] = 128
		finishIPv6(r, header.ICMPv6, defaultHL)
		return
	}
	binary.BigEndian.PutUint16(r[12:], typeIPv4)
	ip[0], ip[8], ip[9] = 0x45, defaultHL, header.ICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+pingLen))
	copy(ip[12:], p.from.AsSlice())
	copy(ip[16:], p.to.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum.Of(ip[:ipLen]))
	icmp[0] = 8
	binary.BigEndian.PutUint16(icmp[2:], checksum.Of(icmp))
}

// Is reports whether a frame is an answer.
func (p *Ping) Is(f *ports.Frame) bool {
	var h header.Header
	b := f.Head()
	h.Parse(b, f.Len())
	return p.is(b, &h)
}

func (p *Ping) is(b []byte, h *header.Header) bool {
	if h.Reason != header.OK || h.L4 == 0 || h.Flags&header.Fragment != 0 || len(b) < int(h.L4)+pingLen {
		return false
	}
	if h.Proto != header.ICMP || b[h.L4] != 0 {
		if h.Proto != header.ICMPv6 || b[h.L4] != 129 {
			return false
		}
	}
	src, dst := h.Addrs(b)
	return src == p.to && dst == p.from && binary.BigEndian.Uint64(b[int(h.L4)+icmpLen:]) == p.token
}

// Answer closes Answered. It is for answers that another than a Worker gets.
func (p *Ping) Answer() { p.once.Do(func() { close(p.answered) }) }

// AwaitPA makes workers take the answer to a ping between provider addresses, until stop is called.
func (e *Engine) AwaitPA(p *Ping) (stop func()) {
	e.setPings(func(all []*Ping) []*Ping { return append(all, p) })
	return func() {
		e.setPings(func(all []*Ping) []*Ping {
			return slices.DeleteFunc(all, func(o *Ping) bool { return o == p })
		})
	}
}

func (e *Engine) setPings(change func([]*Ping) []*Ping) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*Ping
	if old := e.pings.Load(); old != nil {
		all = slices.Clone(*old)
	}
	if all = change(all); len(all) == 0 {
		e.pings.Store(nil)
		return
	}
	e.pings.Store(&all)
}

// pinged reports whether a frame of the provider network answers a ping.
func (w *Worker) pinged(f *ports.Frame) bool {
	all := w.e.pings.Load()
	if all == nil || w.notes != nil {
		return false
	}
	for _, p := range *all {
		if p.is(f.Head(), &w.h) {
			p.Answer()
			return true
		}
	}
	return false
}

// SourceTo returns the provider address of this host from which another one is reached, or the reason why
// there is none.
func (e *Engine) SourceTo(pa netip.Addr) (netip.Addr, Drop) {
	w := Worker{view: view{e: e, snap: e.snap.Load()}}
	i, _, drop := w.wayTo(pa)
	if drop != 0 {
		return netip.Addr{}, drop
	}
	return w.snap.provider.Addresses[i].Address.Addr(), 0
}

// PingPA returns, in place of Outbound, the request of a ping to a provider address; or, while the next hop
// there is not known, the question for it and the request dropped.
func (w *Worker) PingPA(now time.Duration, p *Ping) []Output {
	w.begin(now)
	w.src = 0
	f, buf := w.spares.next()
	i, hop, drop := w.wayTo(p.to)
	if drop != 0 {
		w.drop(f, drop)
		return w.out
	}
	a := &w.snap.provider.Addresses[i]
	next, known := w.nextHop(hop, i)
	p.request(f, buf, next, a.MAC)
	f.VLAN = a.tag()
	if known {
		w.toProvider(f)
	} else {
		w.drop(f, DropUnresolved)
	}
	return w.out
}

// wayTo returns the place of the provider address from which another one is reached, and the next hop there.
func (w *Worker) wayTo(pa netip.Addr) (local int, hop *neighbor, drop Drop) {
	if !isUnicast(pa) {
		return 0, nil, DropMalformed
	}
	if w.snap.provider.local(pa) >= 0 {
		return 0, nil, DropSelf
	}
	for i, way := range w.snap.provider.newPeer(pa, &w.e.neighbors).paths {
		if way.hop != nil {
			return i, way.hop, 0
		}
	}
	return 0, nil, DropNoProvider
}

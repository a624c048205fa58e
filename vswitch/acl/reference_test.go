package acl

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// reference judges by the rules with lists and loops, and remembers with maps: what the package must agree
// with. Only the TCP states are those of the package; they have tests of their own.
type reference struct {
	cfg       Config
	conns     map[refKey]*refConn
	datagrams map[refDatagram]*refParts
	order     []refKey // of connections that may be evicted, the oldest first
	epoch     int
	meters    map[int]*[2]uint64 // bytes by rule
}

type refKey struct {
	local, remote         netip.Addr
	localPort, remotePort uint16
	vlan                  uint32
	proto                 Protocol
	asked                 bool // an echo: who asks
}

type refConn struct {
	conn
	epoch int
	rule  int
	seen  int // ticks
	idle  int
}

type refDatagram struct {
	d        Direction
	src, dst netip.Addr
	id       uint32
	proto    Protocol
	vlan     uint32
}

type refParts struct {
	born  int
	epoch int
	rule  int
	bytes map[int]bool
	total int
}

func newReference(cfg Config) *reference {
	return &reference{cfg: cfg, conns: map[refKey]*refConn{}, datagrams: map[refDatagram]*refParts{}, epoch: 1,
		meters: map[int]*[2]uint64{}}
}

func (f *frame) family() family {
	if f.src.Is4() {
		return v4
	}
	return v6
}

func (f *frame) ends() (local, remote netip.Addr, localPort, remotePort uint16) {
	if f.d == Out {
		return f.src, f.dst, f.sport, f.dport
	}
	return f.dst, f.src, f.dport, f.sport
}

// longestMatch returns the rule of a kind that decides, or -1.
func (r *reference) longestMatch(f *frame, include func(*BasicRule) (length int, ok bool)) int {
	best, length := -1, 0
	for i := range r.cfg.Basic {
		b := &r.cfg.Basic[i]
		if b.Direction&f.d == 0 {
			continue
		}
		n, ok := include(b)
		if !ok {
			continue
		}
		if best < 0 || n > length {
			best, length = i, n
			continue
		}
		if n == length { // local and remote
			denies, already := b.Action == Deny, r.cfg.Basic[best].Action == Deny
			if denies && !already || denies == already && b.Side == Remote {
				best = i
			}
		}
	}
	return best
}

func (r *reference) mac(f *frame) int {
	local, remote := vmMAC, peerMAC
	if !f.srcMAC.IsZero() {
		local, remote = f.srcMAC, f.dstMAC
		if f.d == In {
			local, remote = remote, local
		}
	}
	return r.longestMatch(f, func(b *BasicRule) (int, bool) {
		a := local
		if b.Side == Remote {
			a = remote
		}
		switch {
		case b.Any == AnyMAC:
			return 0, true
		case b.MAC != ports.MAC{} && b.MAC == a:
			return 48, true
		}
		return 0, false
	})
}

func (r *reference) ip(f *frame, meter bool) int {
	local, remote, _, _ := f.ends()
	return r.longestMatch(f, func(b *BasicRule) (int, bool) {
		a := local
		if b.Side == Remote {
			a = remote
		}
		switch {
		case (b.Action == Meter) != meter:
			return 0, false
		case b.Any == AnyIP:
			return -1, true
		case b.Prefix.IsValid() && b.Prefix.Contains(a):
			return b.Prefix.Bits(), true
		}
		return 0, false
	})
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func inRanges(list []PortRange, port uint16, anyPort, has bool) bool {
	return len(list) == 0 || anyPort || has && slices.ContainsFunc(list, func(r PortRange) bool {
		return r.First <= port && (port <= r.Last || r.Last == 0 && port == r.First)
	})
}

// extended returns the first extended rule that matches, or -1.
func (r *reference) extended(f *frame, anyPort bool) int {
	local, remote, localPort, remotePort := f.ends()
	best := -1
	for i := range r.cfg.Extended {
		e := &r.cfg.Extended[i]
		has := f.proto == TCP || f.proto == UDP || f.proto == SCTP
		switch {
		case e.Direction&f.d == 0,
			!contains(e.Local, local), !contains(e.Remote, remote),
			e.Protocol != 0 && e.Protocol != f.proto,
			e.Isolation != 0 && e.Isolation != f.vlan,
			!inRanges(e.LocalPorts, localPort, anyPort, has),
			!inRanges(e.RemotePorts, remotePort, anyPort, has):
			continue
		}
		if best < 0 || e.Weight > r.cfg.Extended[best].Weight {
			best = i
		}
	}
	return best
}

// Random rules and frames. They come from few values, so that they meet.

type source struct{ *rand.Rand }

func newSource(seed uint64) source { return source{rand.New(rand.NewPCG(seed, 7))} }

func pick[T any](r source, list ...T) T { return list[r.IntN(len(list))] }

func (r source) addr4() netip.Addr {
	return netip.AddrFrom4([4]byte{pick[byte](r, 10, 10, 192), pick[byte](r, 0, 1, 128), pick[byte](r, 0, 1, 255), pick[byte](r, 0, 1, 2, 7, 254, 255)})
}

func (r source) addr6() netip.Addr {
	b := [16]byte{0: 0xfd, 7: pick[byte](r, 0, 1), 8: pick[byte](r, 0, 0, 0x80), 15: pick[byte](r, 0, 1, 2, 255)}
	if r.IntN(20) == 0 {
		for i := range b {
			b[i] = 0xff
		}
	}
	return netip.AddrFrom16(b)
}

func (r source) prefix() netip.Prefix {
	if r.IntN(3) == 0 {
		return netip.PrefixFrom(r.addr6(), pick(r, 0, 1, 8, 63, 64, 65, 66, 120, 127, 128))
	}
	return netip.PrefixFrom(r.addr4(), pick(r, 0, 1, 8, 9, 16, 17, 24, 25, 30, 31, 32))
}

func (r source) ports() (list []PortRange) {
	for range r.IntN(3) {
		a, b := uint16(r.IntN(12)), uint16(r.IntN(12))
		switch r.IntN(5) {
		case 0:
			b = 0
		case 1:
			b = 65535
		case 2:
			a, b = 65535, 0
		}
		if b != 0 && a > b {
			a, b = b, a
		}
		list = append(list, PortRange{a, b})
	}
	return list
}

func (r source) some(n int) (list []netip.Prefix) {
	for range r.IntN(n) {
		list = append(list, r.prefix())
	}
	return list
}

func (r source) proto() Protocol { return pick(r, TCP, TCP, UDP, UDP, ICMP, ICMPv6, SCTP, 47) }

func (r source) config(basic, extended int) (c Config) {
	seen := make(map[basicKey]int)
	for range basic {
		b := BasicRule{Direction: pick(r, In, Out, Both), Action: pick(r, Allow, Allow, Deny, Meter, Meter), Side: pick(r, Local, Remote)}
		switch r.IntN(8) {
		case 0:
			b.Any = AnyIP
		case 1, 2:
			b.MAC = pick(r, vmMAC, peerMAC, ports.Broadcast, ports.MAC{2, 0, 0, 0, 0, 9})
		case 3:
			b.Any = AnyMAC
			b.Action = pick(r, Allow, Allow, Deny)
		default:
			b.Prefix = r.prefix()
		}
		if b.validate(0, seen) == nil {
			c.Basic = append(c.Basic, b)
		}
	}
	for range extended {
		e := ExtendedRule{
			Weight: uint16(r.IntN(extended)), Direction: pick(r, In, Out, Both), Action: pick(r, Allow, Deny),
			Local: r.some(3), Remote: r.some(3), Isolation: uint32(pick(r, 0, 0, 0, 1, 2)),
		}
		if r.IntN(2) == 0 {
			e.Protocol = r.proto()
		}
		if e.Protocol == 0 || hasPorts(e.Protocol) {
			e.LocalPorts, e.RemotePorts = r.ports(), r.ports()
		}
		e.Stateful = e.Action == Allow && r.IntN(2) == 0
		if e.validate(0) == nil {
			c.Extended = append(c.Extended, e)
		}
	}
	return c
}

func (r source) frame() frame {
	f := frame{d: pick(r, Out, In), src: r.addr4(), dst: r.addr4(), proto: r.proto()}
	if r.IntN(3) == 0 {
		f.src, f.dst = r.addr6(), r.addr6()
	}
	f.sport, f.dport = uint16(r.IntN(12)), uint16(r.IntN(12))
	if r.IntN(10) == 0 {
		f.sport = 65535
	}
	f.vlan = uint32(r.IntN(3))
	f.payload = make([]byte, 8+r.IntN(30))
	if f.proto == TCP {
		f.flags = pick[uint8](r, tcpSYN, tcpSYN, tcpSYN|tcpACK, tcpACK, tcpACK, tcpFIN|tcpACK, tcpRST, tcpRST|tcpACK, 0, 0x3f)
		f.seq, f.ack, f.window = uint32(r.IntN(3)), uint32(r.IntN(3)), uint16(r.IntN(2)*1000)
		if f.flags&tcpACK == 0 {
			f.payload = nil
		}
	}
	if f.proto == ICMP && f.src.Is4() || f.proto == ICMPv6 && f.src.Is6() {
		typ := pick[byte](r, echoRequest4, echoReply4, 13)
		if f.src.Is6() {
			typ = pick[byte](r, echoRequest6, echoReply6, 133)
		}
		f.icmp = []byte{typ, 0, 0, 0, 0, byte(r.IntN(3)), 0, 0}
		f.sport, f.dport = 0, 0
	}
	return f
}

func (f *frame) echo() bool {
	return f.icmp != nil && (f.src.Is4() && (f.icmp[0] == echoRequest4 || f.icmp[0] == echoReply4) ||
		f.src.Is6() && (f.icmp[0] == echoRequest6 || f.icmp[0] == echoReply6))
}

func (f *frame) request() bool {
	return f.icmp[0] == echoRequest4 && f.src.Is4() || f.icmp[0] == echoRequest6 && f.src.Is6()
}

// key returns the flow of a frame; it reports false for ICMP that is no echo.
func (f *frame) key() (k refKey, ok bool) {
	local, remote, localPort, remotePort := f.ends()
	k = refKey{local: local, remote: remote, vlan: f.vlan, proto: f.proto}
	switch {
	case f.echo():
		k.localPort = be16(f.icmp[4:])
		k.asked = f.request() == (f.d == In)
	case f.icmp != nil:
		return k, false
	case hasPorts(f.proto):
		k.localPort, k.remotePort = localPort, remotePort
	}
	return k, true
}

func (r *reference) tracks() bool {
	return r.cfg.KeepEstablished || slices.ContainsFunc(r.cfg.Extended, func(e ExtendedRule) bool { return e.Stateful })
}

func (r *reference) limit() int {
	if r.cfg.Connections == 0 {
		return defaultConns
	}
	return r.cfg.Connections
}

func (r *reference) timeout(c *refConn) int {
	t := func(d time.Duration, otherwise int) int {
		if d == 0 {
			return otherwise
		}
		return int(d / tick)
	}
	switch c.state {
	case synSent, synReceived:
		return t(r.cfg.Timeouts.TCPHandshake, 600)
	case halfClosed, closing:
		return t(r.cfg.Timeouts.TCPClosing, 2400)
	case reset:
		return 100
	}
	return c.idle
}

func (r *reference) idle(rule int, proto Protocol) int {
	t := &r.cfg.Timeouts
	for _, d := range []time.Duration{r.cfg.Extended[rule].IdleTimeout, map[Protocol]time.Duration{
		TCP: t.TCP, UDP: t.UDP, ICMP: t.ICMP, ICMPv6: t.ICMP, SCTP: t.Other, 47: t.Other}[proto], map[Protocol]time.Duration{
		TCP: 124 * time.Minute, UDP: 5 * time.Minute, ICMP: time.Minute, ICMPv6: time.Minute}[proto]} {
		if d != 0 {
			return int(d / tick)
		}
	}
	return 6000
}

func (r *reference) forget(k refKey) {
	delete(r.conns, k)
	r.order = slices.DeleteFunc(r.order, func(o refKey) bool { return o == k })
}

func (r *reference) setState(k refKey, c *refConn, s connState) {
	if c.state.evictable() && !s.evictable() {
		r.order = slices.DeleteFunc(r.order, func(o refKey) bool { return o == k })
	} else if !c.state.evictable() && s.evictable() {
		r.order = append(r.order, k)
	}
	c.state = s
}

// valid returns the connection of a flow if it still holds.
func (r *reference) valid(k refKey, now int) *refConn {
	c := r.conns[k]
	if c == nil {
		return nil
	}
	if now-c.seen > r.timeout(c) {
		r.forget(k)
		return nil
	}
	if c.epoch != r.epoch {
		if r.cfg.KeepEstablished {
			c.rule = -1
		} else {
			f := frame{d: c.opener(), src: k.local, dst: k.remote, sport: k.localPort, dport: k.remotePort, proto: k.proto, vlan: k.vlan}
			if f.d == In {
				f.src, f.dst, f.sport, f.dport = f.dst, f.src, f.dport, f.sport
			}
			rule := r.extended(&f, false)
			if rule < 0 || !r.cfg.Extended[rule].Stateful {
				r.forget(k)
				return nil
			}
			c.rule, c.idle = rule, r.idle(rule, k.proto)
		}
		c.epoch = r.epoch
	}
	return c
}

func (r *reference) denied(basic int) bool { return basic >= 0 && r.cfg.Basic[basic].Action == Deny }

// pass counts a frame at its meter.
func (r *reference) pass(f *frame, reason Reason, rule int) Verdict {
	if m := r.ip(f, true); m >= 0 {
		if r.meters[m] == nil {
			r.meters[m] = new([2]uint64)
		}
		r.meters[m][f.d.index()] += uint64(len(f.bytes()))
	}
	return Verdict{reason, int32(rule)}
}

// check judges a frame; quoted is the packet that an ICMP error is about.
func (r *reference) check(f, quoted *frame, now int) Verdict {
	if m := r.mac(f); r.denied(m) {
		return Verdict{DeniedByMAC, int32(m)}
	}
	if !f.fragment || !slices.ContainsFunc(r.cfg.Extended, func(e ExtendedRule) bool {
		return e.Direction&f.d != 0 && e.in(f.family())
	}) {
		if b := r.ip(f, false); f.offset > 0 && !r.denied(b) {
			return r.pass(f, Default, -1)
		}
		return r.whole(f, quoted, now)
	}
	k := refDatagram{d: f.d, src: f.src, dst: f.dst, id: f.id, vlan: f.vlan}
	if f.src.Is4() {
		k.proto = f.proto
	}
	p := r.datagrams[k]
	if p != nil && now-p.born > fragmentTimeout {
		delete(r.datagrams, k)
		p = nil
	}
	n := len(f.ip()) - 20
	if f.src.Is6() {
		n = len(f.ip()) - 48
	}
	if f.offset == 0 {
		if p != nil && f.src.Is6() {
			return Verdict{FragmentOverlap, -1}
		}
		v := r.whole(f, quoted, now)
		delete(r.datagrams, k)
		if v.Allowed() {
			p = &refParts{born: now, epoch: r.epoch, rule: int(v.Rule), bytes: map[int]bool{}}
			p.add(f, n)
			r.datagrams[k] = p
		}
		return v
	}
	if b := r.ip(f, false); r.denied(b) {
		return Verdict{DeniedByAddress, int32(b)}
	}
	if p != nil && p.epoch == r.epoch {
		if reason := p.add(f, n); reason != LaterPart {
			return Verdict{reason, int32(p.rule)}
		}
		if p.total > 0 && len(p.bytes) == p.total {
			delete(r.datagrams, k)
		}
		return r.pass(f, LaterPart, p.rule)
	}
	rule := r.extended(f, true)
	switch {
	case rule < 0:
		return r.pass(f, Default, -1)
	case !r.cfg.Extended[rule].portless() || r.cfg.Extended[rule].Stateful:
		return Verdict{MissingFirst, int32(rule)}
	case r.cfg.Extended[rule].Action == Deny:
		return Verdict{DeniedByRule, int32(rule)}
	}
	return r.pass(f, ByRule, rule)
}

// add notes the bytes of a fragment, in units of 8.
func (p *refParts) add(f *frame, n int) Reason {
	first, end := f.offset/8, (f.offset+n+7)/8
	for i := range p.bytes {
		if i >= first && i < end || !f.more && i >= end {
			return FragmentOverlap
		}
	}
	if p.total > 0 && (end > p.total || !f.more) {
		return FragmentOverlap
	}
	if !p.bytes[first-1] && !p.bytes[end] {
		runs := 0
		for i := range p.bytes {
			if !p.bytes[i-1] {
				runs++
			}
		}
		if runs == maxRanges {
			return FragmentDisorder
		}
	}
	for i := first; i < end; i++ {
		p.bytes[i] = true
	}
	if !f.more {
		p.total = end
	}
	return LaterPart
}

func (r *reference) whole(f, quoted *frame, now int) Verdict {
	q := f.packet()
	var replaced *refKey
	key, isFlow := f.key()
	if r.tracks() && isFlow {
		if c := r.valid(key, now); c != nil {
			if b := r.ip(f, false); r.denied(b) {
				return Verdict{DeniedByAddress, int32(b)}
			}
			side := 0
			if f.d != c.opener() {
				side = 1
			}
			state, again := c.state, false
			if f.proto == TCP {
				seg := readTCP(q.head, q.header)
				if again = seg.flags() == tcpSYN && state >= closing; !again {
					var reason Reason
					if state, reason = c.track(&q, seg, side, r.cfg.CheckTCPWindows); reason != Established {
						return Verdict{reason, int32(c.rule)}
					}
				}
			} else if side == 1 {
				state = answered
			}
			if !again {
				if c.state != reset || state != reset {
					c.seen = now
				}
				r.setState(key, c, state)
				return r.pass(f, Established, c.rule)
			}
			replaced = &key
		}
	}
	if r.tracks() && quoted != nil && quoted.src == f.dst {
		if k, ok := quoted.key(); ok {
			if c := r.valid(k, now); c != nil && !r.denied(r.ip(f, false)) {
				side := 0
				if quoted.d != c.opener() {
					side = 1
				}
				if k.proto != TCP || c.sent(quoted.seq, side) {
					return r.pass(f, Related, c.rule)
				}
			}
		}
	}
	if b := r.ip(f, false); r.denied(b) {
		return Verdict{DeniedByAddress, int32(b)}
	}
	rule := r.extended(f, false)
	if rule < 0 {
		return r.pass(f, Default, -1)
	}
	e := &r.cfg.Extended[rule]
	if e.Action == Deny {
		return Verdict{DeniedByRule, int32(rule)}
	}
	if !e.Stateful || !isFlow {
		return r.pass(f, ByRule, rule)
	}
	c := &refConn{rule: rule, epoch: r.epoch, seen: now, idle: r.idle(rule, f.proto)}
	if f.d == In {
		c.flags = openedIn
	}
	if f.proto == TCP {
		seg := readTCP(q.head, q.header)
		switch {
		case !validFlags(seg.flags()):
			return Verdict{BadState, int32(rule)}
		case seg.flags() == tcpSYN:
			c.state = synSent
		case r.cfg.PickUp && seg.flags() == tcpACK:
			c.state = established
		default:
			return Verdict{NoConnection, int32(rule)}
		}
		c.openTCP(&q, seg)
	} else if f.echo() && !f.request() {
		return Verdict{NoConnection, int32(rule)}
	}
	if replaced != nil {
		r.forget(*replaced)
	}
	if len(r.conns) >= r.limit() && len(r.order) > 0 {
		r.forget(r.order[0])
	}
	if len(r.conns) >= r.limit() {
		return Verdict{TableFull, int32(rule)}
	}
	r.conns[key] = c
	if c.state.evictable() {
		r.order = append(r.order, key)
	}
	return r.pass(f, New, rule)
}

// errorAbout returns an ICMP error about a packet that went the other way.
func (r source) errorAbout(quoted *frame) frame {
	f := frame{d: quoted.d.reverse(), src: quoted.dst, dst: quoted.src, proto: ICMP, vlan: quoted.vlan}
	typ := pick[byte](r, unreachable4, exceeded4, quench4, parameter4)
	if f.src.Is6() {
		f.proto, typ = ICMPv6, pick[byte](r, 1, 2, 3, 4)
	}
	switch r.IntN(4) {
	case 0: // from a router
		f.src = r.addr4()
		if f.dst.Is6() {
			f.src = r.addr6()
		}
	case 1: // to somebody else
		f.dst = r.addr4()
		if f.src.Is6() {
			f.dst = r.addr6()
		}
	}
	ip := quoted.ip()
	f.icmp = append([]byte{typ, 1, 0, 0, 0, 0, 0, 0}, ip[:min(len(ip), 60)]...)
	return f
}

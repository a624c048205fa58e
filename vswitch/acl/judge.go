package acl

import (
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
)

// Judge judges packets of one vNIC on their way in one direction, in order. It holds the lock of the State
// from Begin to End, and is used by one goroutine.
type Judge struct {
	s     *State
	p     *Policy
	b     *binding
	d     Direction
	dir   int // its index
	now   uint32
	dry   bool // change nothing
	quick bool // packets of connections need not be looked at otherwise
	count int  // of packets
}

// Begin returns a Judge for packets in direction d. now is the time since any fixed moment, the same for all calls
// on s; it may lag behind that of another caller by a second or so. Begin allocates when it sees p for
// the first time, and Judge.Check when a table grows, else nothing.
func (s *State) Begin(p *Policy, d Direction, now time.Duration) Judge {
	s.mu.Lock()
	dir := d.index()
	return Judge{s: s, p: p, b: s.bind(p), d: d, dir: dir, now: ticks(now), quick: p.tracks && !p.mac[dir].used}
}

// End gives back the State.
func (j *Judge) End() {
	if j.s.table.count > 0 {
		j.s.stats.Expired += uint64(j.s.table.sweep(j.p, j.now, 1+j.count/8))
	}
	j.s.mu.Unlock()
}

// Check judges the packet of which head are the first bytes, as parsed in h. size is the length of the frame in
// bytes, which meters count; isolation its VLAN ID or virtual subnet ID, up to 16,777,215, 0 for none.
// Nothing of it is kept.
func (j *Judge) Check(head []byte, h *header.Header, size int, isolation uint32) Verdict {
	j.count++
	if j.quick && plain4(h) {
		addrs, tail := key4(j.d, head, h, isolation)
		var c *conn
		if r := j.s.table.recent; r != nil {
			c = *r.place(addrs, tail)
		}
		if c == nil || !c.is4(addrs, tail) {
			c = j.s.table.find4(addrs, tail, &j.s.key)
		}
		if c != nil && j.goesOn(c, head, h, size) {
			return Verdict{Established, c.rule}
		}
	}
	return j.judge(packet{head, h, size, isolation})
}

// goesOn judges a packet in the midst of a connection, as known does, but sooner. It reports false for
// all others.
func (j *Judge) goesOn(c *conn, head []byte, h *header.Header, size int) bool {
	if c.epoch != j.b.epoch || int32(j.now-c.seen) > int32(c.idle) || c.flags&(deniedOut<<(j.dir&1)) != 0 {
		return false
	}
	side := int(c.flags&openedIn) ^ j.dir
	switch c.state {
	case answered:
	case unanswered:
		if side != 0 {
			return false
		}
	case established:
		s := readTCP(head, h)
		if s.flags() != tcpACK || c.advance(s, side, j.p.cfg.CheckTCPWindows) != Established {
			return false
		}
	default:
		return false
	}
	c.seen = j.now
	j.b.count(c.meters[j.dir], j.dir, size)
	return true
}

// Peek returns what Check would say of a packet, and changes nothing.
func (s *State) Peek(p *Policy, d Direction, now time.Duration, head []byte, h *header.Header, size int, isolation uint32) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.binding(p)
	if b == nil {
		b = &binding{policy: p} // of an epoch that no connection has
	}
	j := Judge{s: s, p: p, b: b, d: d, dir: d.index(), now: ticks(now), dry: true}
	return j.judge(packet{head, h, size, isolation})
}

// Far reports whether there are so many connections that they do not lie in the cache of a processor. Then
// Fetch for each packet of a batch, before the first Check, saves more than it costs.
func (j *Judge) Far() bool { return j.p.tracks && j.s.table.count > farConns }

// Fetch brings what Check will need for a packet into the cache, so that the waits of many packets overlap.
func (j *Judge) Fetch(head []byte, h *header.Header, isolation uint32) {
	if plain4(h) {
		addrs, tail := key4(j.d, head, h, isolation)
		j.s.touched += j.s.table.touch(j.s.key.hash4(addrs, tail))
	}
}

// judge judges a packet of any kind.
func (j *Judge) judge(p packet) Verdict {
	q := subject{packet: p}
	q.classify(j.d, &j.s.key, j.p.cfg.FilterND)
	return j.packet(&q)
}

func (j *Judge) packet(q *subject) Verdict {
	if m := &j.p.mac[j.dir]; m.used && len(q.head) >= 14 {
		local, remote := loadMAC(q.head[6:]), loadMAC(q.head)
		if j.d == In {
			local, remote = remote, local
		}
		if rule := m.find(local, remote); j.p.denies(rule) {
			return Verdict{DeniedByMAC, rule}
		}
	}
	switch q.kind {
	case notIP:
		return Verdict{NotIP, noRule}
	case neighbor:
		return Verdict{Neighbor, noRule}
	case malformed:
		if j.p.judgesIP[j.dir] {
			return Verdict{Malformed, noRule}
		}
		return Verdict{Default, noRule}
	case laterPart:
		return j.laterPart(q)
	}
	if q.part {
		return j.firstPart(q)
	}
	return j.whole(q)
}

// whole judges a packet with a transport header.
func (j *Judge) whole(q *subject) Verdict {
	if j.p.tracks {
		switch {
		case q.kind <= echoReply:
			if c, ref := j.s.table.find(&q.flow); c != nil {
				return j.known(q, c, ref)
			}
		case q.kind == errorICMP:
			if v := j.related(q); v.Allowed() {
				return v
			}
		}
	}
	return j.fresh(q, 0)
}

// known judges a packet of a flow that has a connection, dead or alive.
func (j *Judge) known(q *subject, c *conn, ref uint32) Verdict {
	if j.dry {
		copied := *c
		c = &copied
	}
	if !j.valid(c) {
		if j.dry {
			return j.fresh(q, ref)
		}
		j.s.table.remove(ref)
		return j.fresh(q, 0)
	}
	if c.flags&(deniedOut<<j.dir) != 0 {
		return Verdict{DeniedByAddress, j.p.ip[j.dir][c.family].judges.find(&q.flow)}
	}
	side := int(c.flags&openedIn) ^ j.dir
	state := c.state
	if q.kind == segmentTCP {
		seg := readTCP(q.head, q.header)
		if seg.flags() == tcpSYN && state >= closing {
			return j.fresh(q, ref) // the ports are used again
		}
		var reason Reason
		if state, reason = c.track(&q.packet, seg, side, j.p.cfg.CheckTCPWindows); reason != Established {
			return Verdict{reason, c.rule}
		}
	} else if side != 0 {
		state = answered
	}
	if j.dry {
		return Verdict{Established, c.rule}
	}
	if state != c.state {
		j.s.table.setState(ref, c, state)
		c.seen = j.now
	} else if state != reset {
		c.seen = j.now
	}
	j.b.count(c.meters[j.dir], j.dir, q.size)
	return Verdict{Established, c.rule}
}

// valid reports whether a connection still holds. When the policy has changed, the rules that admitted it
// are asked again.
func (j *Judge) valid(c *conn) bool {
	if c.expired(j.p, j.now) {
		if !j.dry {
			j.s.stats.Expired++
		}
		return false
	}
	if c.epoch == j.b.epoch {
		return true
	}
	if j.p.cfg.KeepEstablished {
		c.rule = noRule
	} else {
		rule := j.p.programs[c.opener().index()][c.family].match(&c.flow, false)
		if rule == noRule || !j.p.actions[rule].stateful {
			return false
		}
		c.rule, c.idle = rule, j.p.idleOf(rule, c.protocol())
	}
	c.setPolicy(j.p, j.b.epoch)
	return true
}

// setPolicy notes what the basic rules say of both directions.
func (c *conn) setPolicy(p *Policy, epoch uint32) {
	c.epoch = epoch
	c.flags &^= deniedOut | deniedIn
	for dir := range c.meters {
		ip := p.ip[dir][c.family]
		c.meters[dir] = noRule
		if p.denies(ip.judges.find(&c.flow)) {
			c.flags |= deniedOut << dir
		} else if i := ip.meters.find(&c.flow); i != noRule {
			c.meters[dir] = p.meterOf[i]
		}
	}
}

// fresh judges a packet by the rules. It takes the place of the connection old, if that is not 0.
func (j *Judge) fresh(q *subject, old uint32) Verdict {
	m := j.match(&q.flow)
	if j.p.denies(m.basic) {
		return Verdict{DeniedByAddress, m.basic}
	}
	if m.extended == noRule {
		return j.pass(q, &m, Default)
	}
	switch a := &j.p.actions[m.extended]; {
	case !a.allow:
		return Verdict{DeniedByRule, m.extended}
	case !a.stateful, q.kind == otherICMP, q.kind == errorICMP:
		return j.pass(q, &m, ByRule)
	}
	state := unanswered
	var seg segment
	switch q.kind {
	case echoReply:
		return Verdict{NoConnection, m.extended}
	case segmentTCP:
		seg = readTCP(q.head, q.header)
		if !validFlags(seg.flags()) {
			return Verdict{BadState, m.extended}
		}
		if !beginsTCP(seg.flags(), j.p.cfg.PickUp) {
			return Verdict{NoConnection, m.extended}
		}
		state = synSent
		if seg.flags()&tcpSYN == 0 {
			state = established
		}
	}
	if !j.makeRoom(old) {
		return Verdict{TableFull, m.extended}
	}
	if j.dry {
		return Verdict{New, m.extended}
	}
	c := j.s.table.at(j.s.table.insert(&q.flow, state))
	if j.d == In {
		c.flags = openedIn
	}
	c.rule, c.idle, c.seen = m.extended, j.p.idleOf(m.extended, c.protocol()), j.now
	c.setPolicy(j.p, j.b.epoch)
	if q.kind == segmentTCP {
		c.openTCP(&q.packet, seg)
	}
	j.s.stats.Created++
	return j.pass(q, &m, New)
}

func (j *Judge) pass(q *subject, m *match, r Reason) Verdict {
	if !j.dry {
		j.b.count(m.meter, j.dir, q.size)
	}
	return Verdict{r, m.extended}
}

// match finds what the rules say of a packet, or remembers it.
func (j *Judge) match(f *flow) match {
	if !j.p.cached {
		return j.p.match(f, j.dir)
	}
	tag := cacheTag(j.b.epoch, j.d)
	if m := j.s.cache.find(f, tag); m != nil {
		return *m
	}
	m := j.p.match(f, j.dir)
	if !j.dry && (m.extended == noRule || !j.p.actions[m.extended].stateful) {
		j.s.cache.store(f, tag, m)
	}
	return m
}

// sweepForRoom is how many connections are looked at when the table is full.
const sweepForRoom = 8

// makeRoom sees to it that there is room for a connection, and forgets the one that it replaces.
func (j *Judge) makeRoom(old uint32) bool {
	t, limit := &j.s.table, j.p.limit
	if j.dry {
		return old != 0 || t.count < limit || t.oldest != 0 || t.sweepFinds(j.p, j.now, sweepForRoom)
	}
	if old != 0 {
		t.remove(old)
	}
	if t.count < limit {
		return true
	}
	if n := t.sweep(j.p, j.now, sweepForRoom); n > 0 {
		j.s.stats.Expired += uint64(n)
	}
	for n := 0; n < sweepForRoom && t.count >= limit && t.oldest != 0; n++ {
		t.remove(t.oldest) // more than one when the limit has been lowered
		j.s.stats.Evicted++
	}
	if t.count >= limit {
		j.s.stats.Refused++
		return false
	}
	return true
}

// related judges an ICMP error. If the packet it quotes was one of a connection, it passes.
func (j *Judge) related(q *subject) (v Verdict) {
	f, seq, ok := q.quotedFlow(j.d)
	if !ok {
		return v
	}
	f.hash = j.s.key.hash(&f)
	c, ref := j.s.table.find(&f)
	if c == nil {
		return v
	}
	if j.dry {
		copied := *c
		c = &copied
	}
	if !j.valid(c) {
		if !j.dry {
			j.s.table.remove(ref)
		}
		return v
	}
	if c.protocol() == TCP && !c.sent(seq, int(c.flags&openedIn)^j.d.reverse().index()) {
		return v
	}
	m := match{basic: j.p.ip[j.dir][q.flow.family].judges.find(&q.flow), extended: c.rule, meter: noRule}
	if j.p.denies(m.basic) {
		return v
	}
	if i := j.p.ip[j.dir][q.flow.family].meters.find(&q.flow); i != noRule {
		m.meter = j.p.meterOf[i]
	}
	return j.pass(q, &m, Related)
}

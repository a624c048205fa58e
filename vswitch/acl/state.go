package acl

import (
	"sync"
	"time"
)

// State is what one vNIC remembers: connections, fragments, meters. An idle one is a few hundred bytes;
// its tables grow as they are needed and shrink again.
//
// Any number of goroutines may use it at once. Each call takes its lock, once, for the time the batch
// takes, some 20 ns a packet: the worker that polls the vNIC and those that deliver to it wait for each
// other as the latter do for its transmit queue, and for no other vNIC.
type State struct {
	key hashKey // does not change

	mu        sync.Mutex
	table     table
	datagrams datagrams
	cache     cache
	bound     *binding // of the policy used last
	former    *binding // of the one before: for workers that have not yet heard of the change
	epoch     uint32
	stats     Stats
	touched   uint64
}

// Stats are counts since the State was made.
type Stats struct {
	Connections int    // at present
	Created     uint64 // connections
	Expired     uint64 // forgotten when idle, or because no rule is stateful any more
	Evicted     uint64 // forgotten to make room
	Refused     uint64 // not made for want of room; their packets were denied

	DatagramsEvicted uint64 // fragmented datagrams forgotten to make room
}

// NewState returns a State without connections.
func NewState() *State { return &State{key: newHashKey()} }

// Check judges packets on their way in one direction, in order, and fills in their verdicts. now is the
// time since any fixed moment, the same for all calls on s; it may lag behind that of another caller by a
// second or so. Check allocates when a table grows and when it sees p for the first time, else nothing.
func (s *State) Check(p *Policy, d Direction, now time.Duration, packets []Packet) {
	for i := range packets {
		packets[i].classify(d, &s.key, p.cfg.FilterND)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := judge{s: s, p: p, b: s.bind(p), d: d, dir: d.index(), now: ticks(now)}
	if p.tracks && s.table.count > touchConns {
		s.touch(packets)
	}
	quick := p.tracks && !p.mac[j.dir].used
	for i := range packets {
		q := &packets[i]
		if quick && j.quick(q) {
			continue
		}
		q.Verdict = j.packet(q)
	}
	if s.table.count > 0 {
		s.stats.Expired += uint64(s.table.sweep(p, j.now, 1+len(packets)/8))
	}
}

// Peek returns what Check would say of a packet, and changes nothing but the packet.
func (s *State) Peek(p *Policy, d Direction, now time.Duration, packet *Packet) Verdict {
	packet.classify(d, &s.key, p.cfg.FilterND)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.binding(p)
	if b == nil {
		b = &binding{policy: p} // of an epoch that no connection has
	}
	j := judge{s: s, p: p, b: b, d: d, dir: d.index(), now: ticks(now), dry: true}
	packet.Verdict = j.packet(packet)
	return packet.Verdict
}

// Sweep forgets connections that have expired, of some thousand that it looks at, and gives back memory
// that is not needed any more. Check does the same, bit by bit; Sweep is for vNICs without traffic, every
// second or so.
func (s *State) Sweep(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former = nil
	if s.bound == nil {
		return
	}
	t := ticks(now)
	s.stats.Expired += uint64(s.table.sweep(s.bound.policy, t, 2048))
	if s.table.count == 0 {
		s.table = table{}
	}
	s.datagrams.release(t)
	s.cache.release()
}

// Stats returns the counts.
func (s *State) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.stats
	n.Connections = s.table.count
	n.DatagramsEvicted = s.datagrams.evicted
	return n
}

// Meters returns the readings of the meters of p, in the order of its rules.
func (s *State) Meters(p *Policy) []MeterReading {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.binding(p)
	if b == nil {
		b = newBinding(p, 0, s.former, s.bound)
	}
	var list []MeterReading
	for i, rule := range p.meters {
		list = append(list, MeterReading{int(rule), b.counts[i][0], b.counts[i][1]})
	}
	return list
}

func ticks(d time.Duration) uint32 { return uint32(d / tick) }

// binding returns the binding of p, or nil.
func (s *State) binding(p *Policy) *binding {
	for _, b := range [...]*binding{s.bound, s.former} {
		if b != nil && b.policy == p {
			return b
		}
	}
	return nil
}

// bind returns the binding of p, which becomes that of the state.
func (s *State) bind(p *Policy) *binding {
	if s.bound != nil && s.bound.policy == p {
		return s.bound
	}
	if s.former != nil && s.former.policy == p {
		s.bound, s.former = s.former, s.bound
		return s.bound
	}
	s.epoch++
	s.bound, s.former = newBinding(p, s.epoch, s.former, s.bound), s.bound
	if !p.tracks {
		s.stats.Expired += uint64(s.table.count)
		s.table = table{}
	}
	return s.bound
}

// touch asks for all the memory that packets will need, so that the waits for it overlap.
func (s *State) touch(packets []Packet) {
	for _, chain := range []bool{false, true} {
		for i := range packets {
			if k := packets[i].kind; k >= segmentTCP && k <= echoReply {
				s.touched += s.table.touch(&packets[i].flow, chain)
			}
		}
	}
}

// judge judges packets of one direction.
type judge struct {
	s   *State
	p   *Policy
	b   *binding
	d   Direction
	dir int // its index
	now uint32
	dry bool // change nothing
}

func (j *judge) packet(q *Packet) Verdict {
	if m := &j.p.mac[j.dir]; m.used && len(q.Head) >= 14 {
		local, remote := loadMAC(q.Head[6:]), loadMAC(q.Head)
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

// quick judges a packet in the midst of a connection, as known does, but sooner. It reports false for all
// others.
func (j *judge) quick(q *Packet) bool {
	if q.part || q.kind < segmentTCP || q.kind > echoReply {
		return false
	}
	c, _ := j.s.table.find(&q.flow)
	if c == nil {
		return false
	}
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
		s := readTCP(q.Head, q.Header)
		if s.flags() != tcpACK || c.advance(s, side, j.p.cfg.CheckTCPWindows) != Established {
			return false
		}
	default:
		return false
	}
	c.seen = j.now
	j.b.count(c.meters[j.dir], j.dir, q.Len)
	q.Verdict = Verdict{Established, c.rule}
	return true
}

// whole judges a packet with a transport header.
func (j *judge) whole(q *Packet) Verdict {
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
func (j *judge) known(q *Packet, c *conn, ref uint32) Verdict {
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
		seg := readTCP(q.Head, q.Header)
		if seg.flags() == tcpSYN && state >= closing {
			return j.fresh(q, ref) // the ports are used again
		}
		var reason Reason
		if state, reason = c.track(q, seg, side, j.p.cfg.CheckTCPWindows); reason != Established {
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
	j.b.count(c.meters[j.dir], j.dir, q.Len)
	return Verdict{Established, c.rule}
}

// valid reports whether a connection still holds. When the policy has changed, the rules that admitted it
// are asked again.
func (j *judge) valid(c *conn) bool {
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
func (j *judge) fresh(q *Packet, old uint32) Verdict {
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
		seg = readTCP(q.Head, q.Header)
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
		c.openTCP(q, seg)
	}
	j.s.stats.Created++
	return j.pass(q, &m, New)
}

func (j *judge) pass(q *Packet, m *match, r Reason) Verdict {
	if !j.dry {
		j.b.count(m.meter, j.dir, q.Len)
	}
	return Verdict{r, m.extended}
}

// match finds what the rules say of a packet, or remembers it.
func (j *judge) match(f *flow) match {
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
func (j *judge) makeRoom(old uint32) bool {
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
func (j *judge) related(q *Packet) (v Verdict) {
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

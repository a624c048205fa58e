package acl

import "github.com/hvswitch/hvswitch/internal/header"

// A later fragment has no ports, so it gets the verdict of the first fragment of its datagram, which is
// remembered when that one passes. Fragments that overlap what has passed are denied (RFC 5722), so the
// receiver never has two versions of a byte to choose from; the parser has denied those that are too short
// for their transport header and those that begin within it (RFC 1858, RFC 3128, RFC 7112).

const (
	maxDatagrams    = 1024 // remembered for one vNIC
	minDatagrams    = 16
	datagramWays    = 4
	fragmentTimeout = 300 // ticks, 30 s: no longer than a receiver waits (RFC 8200, section 4.5)
	maxRanges       = 6   // of one datagram, when its fragments come in disorder
)

// fragment is what is read of a fragment: its datagram and its place there.
type fragment struct {
	datagramID
	first, end uint16 // in units of 8 bytes
	more       bool
}

// datagramID identifies a datagram that is being received in parts (RFC 791, section 3.2; RFC 8200,
// section 4.5).
type datagramID struct {
	flow      // local and remote address; the isolation ID and, of IPv4, the protocol
	id        uint32
	direction Direction
}

// readFragment reads the fragment fields of a packet that the parser found valid. It reports false when a
// fragment that is not the last does not end at a multiple of 8 bytes.
func (p *subject) readFragment(d Direction, key *hashKey) (f fragment, ok bool) {
	h := p.header
	b := p.head[h.L3:]
	f.flow = p.flow
	f.direction = d
	var offset, n int
	if f.family == v4 {
		w := be16(b[6:])
		f.tail = tailOf(0, 0, p.isolation, Protocol(h.Proto))
		f.id, f.more = uint32(be16(b[4:])), w&0x2000 != 0
		offset, n = int(w&0x1fff)*8, int(be16(b[2:]))-int(b[0]&15)*4
	} else {
		_, _, at := skipExtensions(b[:min(len(b), header.Limit-int(h.L3))], b[6], 40)
		if at == 0 {
			return f, false
		}
		w := be16(b[at+2:])
		f.tail = tailOf(0, 0, p.isolation, 0)
		f.id, f.more = be32(b[at+4:]), w&1 != 0
		offset, n = int(w&0xfff8), int(be16(b[4:]))+40-(at+8)
	}
	f.hash = 0
	f.tail ^= uint64(f.id) << 32 // mix it into the hash only
	f.hash = key.hash(&f.flow) + uint32(d)
	f.tail ^= uint64(f.id) << 32
	f.first, f.end = uint16(offset/8), uint16((offset+n+7)/8)
	return f, n > 0 && (!f.more || n%8 == 0)
}

// parts is what has passed of a datagram.
type parts struct {
	datagramID
	born   uint32 // tick; 0 with an id of no direction is an empty place
	epoch  uint32
	rule   int32
	total  uint16 // units, when the last fragment has passed
	count  uint8
	ranges [maxRanges]struct{ first, end uint16 } // disjoint, in order
}

func (p *parts) live(now uint32) bool {
	return p.direction != 0 && int32(now-p.born) <= fragmentTimeout
}

// add notes a fragment. It denies one that overlaps, and one that would need another range.
func (p *parts) add(f *fragment) Reason {
	if p.total != 0 && (f.end > p.total || !f.more && f.end != p.total) {
		return FragmentOverlap
	}
	i := 0
	for i < int(p.count) && p.ranges[i].end < f.first {
		i++
	}
	// Range i is the first that touches the fragment or lies behind it.
	r := p.ranges[:p.count]
	joinsLeft := i < len(r) && r[i].end == f.first
	next := i
	if joinsLeft {
		next++
	}
	if next < len(r) && r[next].first < f.end {
		return FragmentOverlap
	}
	if !f.more && next < len(r) {
		return FragmentOverlap // behind the last
	}
	joinsRight := next < len(r) && r[next].first == f.end
	switch {
	case joinsLeft && joinsRight:
		r[i].end = r[next].end
		copy(r[next:], r[next+1:])
		p.count--
	case joinsLeft:
		r[i].end = f.end
	case joinsRight:
		r[next].first = f.first
	case int(p.count) == maxRanges:
		return FragmentDisorder
	default:
		p.count++
		copy(p.ranges[i+1:p.count], r[i:])
		p.ranges[i] = struct{ first, end uint16 }{f.first, f.end}
	}
	if !f.more {
		p.total = f.end
	}
	return LaterPart
}

// whole reports whether all of the datagram has passed.
func (p *parts) whole() bool {
	return p.total != 0 && p.count == 1 && p.ranges[0].first == 0 && p.ranges[0].end == p.total
}

// datagrams remembers the datagrams whose first fragment has passed. Each has datagramWays places; the
// oldest makes room.
type datagrams struct {
	places  []parts
	evicted uint64
}

func (t *datagrams) set(hash uint32) []parts {
	i := int(hash) & (len(t.places)/datagramWays - 1) * datagramWays
	return t.places[i : i+datagramWays]
}

func (t *datagrams) find(d *datagramID, now uint32) *parts {
	if len(t.places) == 0 {
		return nil
	}
	set := t.set(d.hash)
	for i := range set {
		p := &set[i]
		if p.id == d.id && p.direction == d.direction && p.flow.equal(&d.flow) && p.live(now) {
			return p
		}
	}
	return nil
}

// insert returns a place for a datagram that is not there.
func (t *datagrams) insert(d *datagramID, now uint32) *parts {
	if len(t.places) == 0 {
		t.places = make([]parts, minDatagrams)
	}
	for {
		set := t.set(d.hash)
		oldest := &set[0]
		for i := range set {
			p := &set[i]
			if !p.live(now) {
				oldest = p
				break
			}
			if int32(p.born-oldest.born) < 0 {
				oldest = p
			}
		}
		if oldest.live(now) {
			if len(t.places) < maxDatagrams {
				t.grow(now)
				continue
			}
			t.evicted++
		}
		*oldest = parts{datagramID: *d, born: now}
		return oldest
	}
}

func (t *datagrams) grow(now uint32) {
	old := t.places
	t.places = make([]parts, 2*len(old))
	for i := range old {
		if !old[i].live(now) {
			continue
		}
		set := t.set(old[i].hash)
		for j := range set {
			if set[j].direction == 0 {
				set[j] = old[i]
				break
			}
		}
	}
}

func (p *parts) forget() { *p = parts{} }

// release gives back the memory when nothing is remembered.
func (t *datagrams) release(now uint32) {
	for i := range t.places {
		if t.places[i].live(now) {
			return
		}
	}
	t.places = nil
}

// firstPart judges the first fragment of a datagram, and remembers that it passed.
func (j *Judge) firstPart(q *subject) Verdict {
	if len(j.p.programs[j.dir][q.flow.family].rules) == 0 {
		return j.whole(q) // so will the others
	}
	f, ok := q.readFragment(j.d, &j.s.key)
	if !ok {
		return Verdict{Malformed, noRule}
	}
	known := j.s.datagrams.find(&f.datagramID, j.now)
	if known != nil && f.family == v6 {
		return Verdict{FragmentOverlap, noRule} // RFC 5722
	}
	v := j.whole(q)
	if j.dry {
		return v
	}
	// The IDs of IPv4 wrap around, so this may be another datagram. What the first fragment of the
	// one before let in, that of this one does too, or does no longer.
	if known != nil {
		known.forget()
	}
	if v.Allowed() {
		p := j.s.datagrams.insert(&f.datagramID, j.now)
		p.epoch, p.rule = j.b.epoch, v.Rule
		p.add(&f)
	}
	return v
}

// laterPart judges a fragment that is not the first.
func (j *Judge) laterPart(q *subject) Verdict {
	ip, program := j.p.ip[j.dir][q.flow.family], j.p.programs[j.dir][q.flow.family]
	if basic := ip.judges.find(&q.flow); j.p.denies(basic) {
		return Verdict{DeniedByAddress, basic}
	}
	m := match{extended: noRule, meter: noRule}
	if i := ip.meters.find(&q.flow); i != noRule {
		m.meter = j.p.meterOf[i]
	}
	if len(program.rules) == 0 {
		return j.pass(q, &m, Default)
	}
	f, ok := q.readFragment(j.d, &j.s.key)
	if !ok {
		return Verdict{Malformed, noRule}
	}
	if known := j.s.datagrams.find(&f.datagramID, j.now); known != nil && known.epoch == j.b.epoch {
		m.extended = known.rule
		if j.dry {
			copied := *known
			known = &copied
		}
		if r := known.add(&f); r != LaterPart {
			return Verdict{r, known.rule}
		}
		if known.whole() && !j.dry {
			known.forget()
		}
		return j.pass(q, &m, LaterPart)
	}
	// Without the first fragment there are no ports. They do not matter if the first rule that could
	// match does not ask for them. The protocol is not known if extension headers are in between.
	m.extended = program.match(&q.flow, true)
	if m.extended == noRule {
		return j.pass(q, &m, Default)
	}
	a := &j.p.actions[m.extended]
	switch {
	case q.flow.family == v6 && isExtension(uint8(q.flow.protocol())):
	case a.portless && !a.allow:
		return Verdict{DeniedByRule, m.extended}
	case a.portless && !a.stateful:
		return j.pass(q, &m, ByRule)
	}
	return Verdict{MissingFirst, m.extended}
}

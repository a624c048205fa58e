package overlay

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"github.com/hvswitch/hvswitch/ports"
)

// entry is a record as the tables hold it: half a cache line, no pointers.
type entry struct {
	hi, lo uint64 // CA; an IPv4 one as ::ffff:0:0/96; zero of L2Only
	mac    uint64 // in the upper 48 bits; the time it was seen, of a learned one, in the lower 16
	vsid   uint32 // in the lower 24 bits; the type in the next 4, the rule in the upper 4
	peer   uint32 // index of the provider address
}

const vsidMask = 0xffffff

func (e *entry) typ() RecordType     { return RecordType(e.vsid >> 24 & 15) }
func (e *entry) rule() Encapsulation { return Encapsulation(e.vsid >> 28) }
func (e *entry) id() VSID            { return VSID(e.vsid & vsidMask) }

func (e *entry) addr() ports.MAC {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], e.mac)
	return ports.MAC(b[:6])
}

func (e *entry) setSeen(tick uint16) { e.mac = e.mac&^0xffff | uint64(tick) }
func (e *entry) seen() uint16        { return uint16(e.mac) }

// ca returns the customer address; it is not valid of L2Only.
func (e *entry) ca() netip.Addr {
	if e.typ() == L2Only {
		return netip.Addr{}
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], e.hi)
	binary.BigEndian.PutUint64(b[8:], e.lo)
	return netip.AddrFrom16(b).Unmap()
}

func macWord(m ports.MAC) uint64 {
	return uint64(binary.BigEndian.Uint32(m[:]))<<32 | uint64(binary.BigEndian.Uint16(m[4:]))<<16
}

// ca is a customer address as a key of a table.
type ca struct{ hi, lo uint64 }

const mapped4 = 0xffff << 32 // of ::ffff:0:0/96

func ca4(b []byte) ca { return ca{0, mapped4 | uint64(binary.BigEndian.Uint32(b))} }

func ca6(b []byte) ca {
	return ca{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func caOf(a netip.Addr) ca {
	b := a.As16()
	return ca6(b[:])
}

// Keys of the hashes: tenants choose addresses, so nobody may know them.
var key0, key1, key2 = rand.Uint64(), rand.Uint64(), rand.Uint64()

func hashCA(vsid uint32, a ca) uint64 {
	hi, lo := bits.Mul64(a.hi^key0, a.lo^key1)
	hi, lo = bits.Mul64(hi^lo^key2, uint64(vsid)^key1|1<<63)
	return hi ^ lo
}

func hashMAC(vsid uint32, mac uint64) uint64 {
	hi, lo := bits.Mul64(mac^key0, uint64(vsid)<<32^key1|1)
	hi, lo = bits.Mul64(hi^lo^key2, key1|1)
	return hi ^ lo
}

// table is an immutable hash trie of entries, by customer address or by MAC address. A change copies the
// way from the root to one leaf: about one kilobyte among a thousand entries, and half as much again among
// a million.
//
// A node has 16 slots for four bits of the hash. Adjacent slots share a leaf until it is full: it is
// halved then, and a full leaf of a single slot becomes a node.
type table struct {
	root  *node
	count int
	byMAC bool
}

// node has a *leaf in each slot that is set in leaves, and a *node in the others: a pointer alone keeps it
// small, and it is copied more than anything else.
type node struct {
	owner  *edit
	leaves uint16
	slots  [fanout]unsafe.Pointer
}

func (n *node) leaf(i uint64) *leaf {
	if n.leaves>>i&1 == 0 {
		return nil
	}
	return (*leaf)(n.slots[i])
}

// below returns the node in a slot that has no leaf.
func (n *node) below(i uint64) *node { return (*node)(n.slots[i]) }

func (n *node) setLeaf(i uint64, l *leaf) {
	n.slots[i] = unsafe.Pointer(l)
	n.leaves |= 1 << i
}

func (n *node) setBelow(i uint64, b *node) {
	n.slots[i] = unsafe.Pointer(b)
	n.leaves &^= 1 << i
}

type leaf struct {
	owner   *edit
	width   uint8          // bits of the slot's number that all slots of the leaf share
	tags    [leafMax]uint8 // of the first entries: eight bits of their hashes
	entries []entry        // more than leafMax when hashes are equal
}

const (
	fanoutBits = 4
	fanout     = 1 << fanoutBits
	leafMax    = 16
	maxDepth   = 13 // of nodes; 52 bits, the tag is below
)

// edit owns the nodes and leaves that may be changed in place, as nobody else has seen them yet. It knows
// which parts of the tables it has changed.
type edit struct {
	ca, mac []uint16 // shards
}

func (ed *edit) touch(t *table, hash uint64) {
	if t.byMAC {
		ed.mac = append(ed.mac, shardOf(hash))
	} else {
		ed.ca = append(ed.ca, shardOf(hash))
	}
}

func (t *table) hash(e *entry) uint64 {
	if t.byMAC {
		return hashMAC(e.vsid&vsidMask, e.mac&^0xffff)
	}
	return hashCA(e.vsid&vsidMask, ca{e.hi, e.lo})
}

// same reports whether two entries have the same key. One MAC address has several records, and one of
// them may be of its own.
func (t *table) same(a, b *entry) bool {
	if a.hi != b.hi || a.lo != b.lo || (a.vsid^b.vsid)&vsidMask != 0 {
		return false
	}
	return !t.byMAC || (a.mac^b.mac)>>16 == 0 && (a.typ() == L2Only) == (b.typ() == L2Only)
}

func (t *table) find(hash uint64) *leaf {
	n := t.root
	if n == nil {
		return nil
	}
	for h := hash; ; h <<= fanoutBits {
		i := h >> (64 - fanoutBits)
		if l := n.leaf(i); l != nil {
			return l
		}
		n = n.below(i)
	}
}

// lookupCA returns the entry of a customer address, or nil. It must not be changed.
func (t *table) lookupCA(vsid VSID, a ca) *entry { return t.hashedCA(hashCA(uint32(vsid), a), vsid, a) }

func (t *table) hashedCA(h uint64, vsid VSID, a ca) *entry {
	l := t.find(h)
	if l == nil {
		return nil
	}
	for i := l.next(uint8(h), 0); i < len(l.entries); i = l.next(uint8(h), i+1) {
		if e := &l.entries[i]; e.lo == a.lo && e.hi == a.hi && e.vsid&vsidMask == uint32(vsid) {
			return e
		}
	}
	return nil
}

// lookupMAC returns the entry of a MAC address, or nil; of several always the same one, that of the
// lowest type and then customer address. It must not be changed.
func (t *table) lookupMAC(vsid VSID, mac uint64) *entry {
	return t.hashedMAC(hashMAC(uint32(vsid), mac), vsid, mac)
}

func (t *table) hashedMAC(h uint64, vsid VSID, mac uint64) *entry {
	l := t.find(h)
	if l == nil {
		return nil
	}
	var best *entry
	for i := l.next(uint8(h), 0); i < len(l.entries); i = l.next(uint8(h), i+1) {
		e := &l.entries[i]
		if (e.mac^mac)>>16 != 0 || e.vsid&vsidMask != uint32(vsid) {
			continue
		}
		if best == nil || e.before(best) {
			best = e
		}
	}
	return best
}

func (e *entry) before(o *entry) bool {
	switch {
	case e.typ() != o.typ():
		return e.typ() < o.typ()
	case e.hi != o.hi:
		return e.hi < o.hi
	}
	return e.lo < o.lo
}

// next returns the place of the first entry from i on that may have the tag, or one behind the last.
func (l *leaf) next(tag uint8, i int) int {
	n := len(l.entries)
	for ; i < n && i < leafMax; i = i&^7 + 8 {
		const ones, highs = 0x0101010101010101, 0x8080808080808080
		w := binary.LittleEndian.Uint64(l.tags[i&^7:]) ^ uint64(tag)*ones
		zeros := (w - ones) &^ w & highs // and at times the byte behind a zero one
		zeros &= ^uint64(0) << (i & 7 * 8)
		if zeros != 0 {
			return min(i&^7+bits.TrailingZeros64(zeros)/8, n)
		}
	}
	return i
}

// put adds an entry or replaces the one with its key, which it returns.
func (t *table) put(ed *edit, e entry) (old entry, replaced bool) {
	hash := t.hash(&e)
	ed.touch(t, hash)
	if t.root == nil {
		t.root = &node{owner: ed}
		t.root.spread(&leaf{owner: ed}, 0)
	}
	t.root = t.root.own(ed)
	n, h := t.root, hash
	for depth := 0; ; {
		i := h >> (64 - fanoutBits)
		if n.leaf(i) == nil {
			n, h, depth = n.ownBelow(ed, i), h<<fanoutBits, depth+1
			continue
		}
		l := n.ownLeaf(ed, i)
		for k := l.next(uint8(hash), 0); k < len(l.entries); k = l.next(uint8(hash), k+1) {
			if t.same(&l.entries[k], &e) {
				old, l.entries[k] = l.entries[k], e
				return old, true
			}
		}
		if len(l.entries) < leafMax || depth == maxDepth-1 && l.width == fanoutBits {
			l.add(e, uint8(hash))
			t.count++
			return old, false
		}
		if l.width == fanoutBits {
			l.width = 0
			below := &node{owner: ed}
			below.spread(l, 0)
			n.setBelow(i, below)
			continue
		}
		t.halve(ed, n, l, i, depth)
	}
}

// load puts many entries, in an order that makes neighbors of those that end up in the same leaf. Of equal
// keys the last one stays.
func (t *table) load(ed *edit, entries []entry) {
	const bits = 14
	first := make([]uint32, 1<<bits+1)
	hashes := make([]uint16, len(entries))
	for i := range entries {
		hashes[i] = uint16(t.hash(&entries[i]) >> (64 - bits))
		first[hashes[i]+1]++
	}
	for i := range 1 << bits {
		first[i+1] += first[i]
	}
	order := make([]uint32, len(entries))
	for i, h := range hashes {
		order[first[h]] = uint32(i)
		first[h]++
	}
	for _, i := range order {
		t.put(ed, entries[i])
	}
}

func (l *leaf) add(e entry, tag uint8) {
	if n := len(l.entries); n < leafMax {
		l.tags[n] = tag
	}
	l.entries = append(l.entries, e)
}

// halve gives half of the slots of a leaf, of which i is one, a leaf of their own.
func (t *table) halve(ed *edit, n *node, l *leaf, i uint64, depth int) {
	a := &leaf{owner: ed, width: l.width + 1, entries: make([]entry, 0, leafMax)}
	b := &leaf{owner: ed, width: l.width + 1, entries: make([]entry, 0, leafMax)}
	bit := uint64(1) << (63 - depth*fanoutBits - int(l.width))
	for k := range l.entries {
		e := &l.entries[k]
		h := t.hash(e)
		if h&bit == 0 {
			a.add(*e, uint8(h))
		} else {
			b.add(*e, uint8(h))
		}
	}
	half := uint64(fanout) >> a.width
	first := i &^ (2*half - 1)
	n.spread(a, first)
	n.spread(b, first+half)
}

// spread puts a leaf into its slots, of which i is one.
func (n *node) spread(l *leaf, i uint64) {
	count := uint64(fanout) >> l.width
	first := i &^ (count - 1)
	for k := first; k < first+count; k++ {
		n.setLeaf(k, l)
	}
}

func (n *node) own(ed *edit) *node {
	if n.owner == ed {
		return n
	}
	c := *n
	c.owner = ed
	return &c
}

func (n *node) ownBelow(ed *edit, i uint64) *node {
	b := n.below(i).own(ed)
	n.slots[i] = unsafe.Pointer(b)
	return b
}

func (n *node) ownLeaf(ed *edit, i uint64) *leaf {
	l := n.leaf(i)
	if l.owner == ed {
		return l
	}
	c := *l
	c.owner = ed
	c.entries = append(make([]entry, 0, len(l.entries)+1), l.entries...)
	n.spread(&c, i)
	return &c
}

// remove takes an entry away that has the same key as e and returns it.
func (t *table) remove(ed *edit, e *entry) (old entry, ok bool) {
	hash := t.hash(e)
	l := t.find(hash)
	if l == nil {
		return old, false
	}
	at := l.next(uint8(hash), 0)
	for at < len(l.entries) && !t.same(&l.entries[at], e) {
		at = l.next(uint8(hash), at+1)
	}
	if at >= len(l.entries) {
		return old, false
	}
	ed.touch(t, hash)
	t.root = t.root.own(ed)
	var way [maxDepth]*node
	n, depth := t.root, 0
	for h := hash; ; h <<= fanoutBits {
		way[depth] = n
		depth++
		i := h >> (64 - fanoutBits)
		if n.leaf(i) != nil {
			l = n.ownLeaf(ed, i)
			break
		}
		n = n.ownBelow(ed, i)
	}
	old = l.entries[at]
	last := len(l.entries) - 1
	l.entries[at] = l.entries[last]
	if at < leafMax {
		l.tags[at] = uint8(t.hash(&l.entries[at]))
	}
	l.entries = l.entries[:last]
	t.count--
	t.merge(l, hash, way[:depth])
	if t.count == 0 {
		t.root = nil
	}
	return old, true
}

// merge gives back what the few entries of a leaf do not need. The leaf and the nodes on the way to it are
// owned.
func (t *table) merge(l *leaf, hash uint64, way []*node) {
	for depth := len(way) - 1; ; depth-- {
		n, i := way[depth], slotAt(hash, depth)
		for l.width > 0 {
			other := n.leaf(i ^ fanout>>l.width)
			if other == nil || other.width != l.width || len(l.entries)+len(other.entries) > leafMax/2 {
				return
			}
			for k := range other.entries {
				l.add(other.entries[k], uint8(t.hash(&other.entries[k])))
			}
			l.width--
			n.spread(l, i)
		}
		if depth == 0 {
			return
		}
		l.width = fanoutBits
		way[depth-1].setLeaf(slotAt(hash, depth-1), l)
	}
}

// slotAt returns the slot of a hash in a node.
func slotAt(hash uint64, depth int) uint64 { return hash << (depth * fanoutBits) >> (64 - fanoutBits) }

// all calls yield for every entry until it returns false.
func (t *table) all(yield func(*entry) bool) bool {
	return t.root == nil || t.root.all(yield)
}

func (n *node) all(yield func(*entry) bool) bool {
	var last *leaf
	for i := range uint64(fanout) {
		l := n.leaf(i)
		if l == nil {
			if !n.below(i).all(yield) {
				return false
			}
			continue
		}
		if l == last {
			continue
		}
		last = l
		for k := range last.entries {
			if !yield(&last.entries[k]) {
				return false
			}
		}
	}
	return true
}

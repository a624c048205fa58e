package acl

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
)

// point is a value of a field: an address, a port, a protocol. A value of 32 bits and less stands in lo.
type point struct{ hi, lo uint64 }

func (p point) compare(q point) int {
	if c := cmp.Compare(p.hi, q.hi); c != 0 {
		return c
	}
	return cmp.Compare(p.lo, q.lo)
}

// span is the values from first up to, not including, end. The end of all values of 128 bits is 0.
type span struct{ first, end point }

func spanOf(first, last uint64) span { return span{point{lo: first}, point{lo: last + 1}} }

// spanOfPrefix returns the addresses of a prefix.
func spanOfPrefix(p netip.Prefix) span {
	p = p.Masked()
	if a := p.Addr(); a.Is4() {
		b := a.As4()
		first := uint64(be32(b[:]))
		return spanOf(first, first+1<<(32-p.Bits())-1)
	}
	b := p.Addr().As16()
	s := span{first: point{be64(b[:]), be64(b[8:])}}
	s.end = s.first
	if n := p.Bits(); n <= 64 {
		s.end.hi += 1 << (64 - n) // 0 for a shift by 64, as it must be
	} else {
		s.end.lo += 1 << (128 - n)
		if s.end.lo == 0 {
			s.end.hi++
		}
	}
	return s
}

// isMax reports whether the span reaches to the end of all values.
func (s span) isMax() bool { return s.end == point{} }

// union sorts spans and joins those that touch.
func union(list []span) []span {
	if len(list) < 2 {
		return list
	}
	slices.SortFunc(list, func(a, b span) int { return a.first.compare(b.first) })
	out := list[:1]
	for _, s := range list[1:] {
		last := &out[len(out)-1]
		if !last.isMax() && last.end.compare(s.first) < 0 {
			out = append(out, s)
		} else if s.isMax() || !last.isMax() && last.end.compare(s.end) < 0 {
			last.end = s.end
		}
	}
	return out
}

// trie maps each value of up to 32 bits to that of the interval it is in, eight bits at a time.
type trie struct {
	nodes   []trieNode
	entries []uint32 // of all nodes, one for each run of equal slots
	shift   uint8    // of the bits that the root decides on
}

// trieNode has 256 slots. A bit says that a run of equal slots begins there, base is the place of the run
// in front of the first of a word's slots.
type trieNode struct {
	runs [4]uint64
	base [4]uint32
}

// leaf marks an entry that is a value, not a node.
const leaf = 1 << 31

func (t *trie) find(x uint32) uint32 {
	e := uint32(0)
	for shift := t.shift; ; shift -= 8 {
		n := &t.nodes[e]
		slot := x >> (shift & 31) & 255
		word := slot >> 6
		e = t.entries[n.base[word]+uint32(bits.OnesCount64(n.runs[word]&(2<<(slot&63)-1)))-1]
		if e&leaf != 0 {
			return e &^ leaf
		}
	}
}

// steps is a list of intervals, by where each begins; the first at 0.
type steps struct {
	first []point
	value []uint32
}

func (s *steps) add(first point, value uint32) {
	s.first = append(s.first, first)
	s.value = append(s.value, value)
}

// trie makes a trie of intervals of values of width bits.
func (s *steps) trie(width int) (t trie) {
	t.shift = uint8(width - 8)
	t.build(s, 0, len(s.first), 0, t.shift)
	t.nodes, t.entries = slices.Clip(t.nodes), slices.Clip(t.entries)
	return t
}

// build adds the node for the values from origin on, where intervals i to j-1 begin or, the first of
// them, continue, and returns its index.
func (t *trie) build(s *steps, i, j int, origin uint64, shift uint8) uint32 {
	var runs [256]uint32
	n := len(t.nodes)
	t.nodes = append(t.nodes, trieNode{})
	for slot := range runs {
		first := origin + uint64(slot)<<shift
		next := first + 1<<shift
		for i+1 < j && s.first[i+1].lo <= first {
			i++
		}
		k := i + 1
		for k < j && s.first[k].lo < next {
			k++
		}
		if k == i+1 {
			runs[slot] = leaf | s.value[i]
		} else {
			runs[slot] = t.build(s, i, k, first, shift-8)
		}
		i = k - 1
	}
	node := &t.nodes[n]
	count := uint32(len(t.entries))
	for slot, e := range runs {
		if slot%64 == 0 {
			node.base[slot/64] = count
		}
		if slot == 0 || e != runs[slot-1] {
			node.runs[slot/64] |= 1 << (slot % 64)
			t.entries = append(t.entries, e)
			count++
		}
	}
	return uint32(n)
}

// search maps values of 128 bits like a trie, by halving.
type search struct {
	first []point
	value []uint32
}

func (t *search) find(hi, lo uint64) uint32 {
	base, n := 0, len(t.first)
	for n > 1 {
		half := n >> 1
		f := &t.first[base+half]
		// Which half cannot be predicted, so there is no branch.
		_, less := bits.Sub64(lo, f.lo, 0)
		_, less = bits.Sub64(hi, f.hi, less)
		base += half & (int(less) - 1)
		n -= half
	}
	return t.value[base]
}

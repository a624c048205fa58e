package acl

import (
	"math/bits"
	"slices"
)

// A bit set here is a set of rules of one program; bit 0 is the rule that comes first. It is stored in
// chunks of one cache line. Many sets share a chunk, and a chunk without a bit is not stored, so the set
// of an interval costs what makes it differ from its neighbours.
const (
	chunkWords = 8
	chunkBits  = 64 * chunkWords
	maxChunks  = maxExtended / chunkBits // as many as a summary has bits
)

type chunk [chunkWords]uint64

// bitSet is a set in stored form. Of a program of at most 64 rules, summary is the set itself. Otherwise
// bit i of summary says that chunk i is not empty, and the references to the chunks that are not empty
// stand one behind the other.
type bitSet struct {
	summary uint64
	refs    uint32 // index of the first
}

// chunkRef is the index of a chunk, and in its low 8 bits which words of it are not zero.
type chunkRef uint32

func (r chunkRef) chunk() uint32 { return uint32(r >> chunkWords) }
func (r chunkRef) words() uint32 { return uint32(r & (1<<chunkWords - 1)) }

// chunkStore keeps each chunk once.
type chunkStore struct {
	chunks []chunk
	known  map[chunk]chunkRef
}

func (s *chunkStore) ref(c *chunk) chunkRef {
	if r, ok := s.known[*c]; ok {
		return r
	}
	if s.known == nil {
		s.known = make(map[chunk]chunkRef)
	}
	r := chunkRef(len(s.chunks)) << chunkWords
	for i, w := range c {
		if w != 0 {
			r |= 1 << i
		}
	}
	s.chunks = append(s.chunks, *c)
	s.known[*c] = r
	return r
}

// field maps the values of one header field to the sets of rules they match.
type field struct {
	sets []bitSet
	refs []chunkRef

	trie          // of fields of 32 bits and less
	search        // of IPv6 addresses
	none   uint32 // the set of the rules without a condition
}

// used reports whether any rule has a condition on the field.
func (f *field) used() bool { return len(f.sets) > 0 }

// condition is the values that one rule accepts in a field, disjoint; none means any.
type condition []span

// edge is where a rule begins or ends to match.
type edge struct {
	at   point
	on   bool
	rule int32
}

// setBuilder makes the sets of a field while it goes over its values from the least to the greatest.
type setBuilder struct {
	store *chunkStore
	small bool
	now   []chunk // the rules that match here
	dirty uint64  // chunks of now that have changed
	row   []chunkRef
	hash  uint64 // of row
	known map[uint64][]uint32
	out   *field
}

// build makes a field of so many bits of the conditions of the rules of a program.
func (s *chunkStore) build(conditions []condition, width int) (f field) {
	edges := make([]edge, 0, 2*len(conditions))
	n := (len(conditions) + chunkBits - 1) / chunkBits
	b := setBuilder{
		store: s,
		small: len(conditions) <= 64,
		now:   make([]chunk, n),
		row:   make([]chunkRef, n),
		dirty: 1<<n - 1,
		known: make(map[uint64][]uint32),
		out:   &f,
	}
	for i, c := range conditions {
		if len(c) == 0 {
			b.flip(int32(i))
		}
		for _, s := range c {
			edges = append(edges, edge{s.first, true, int32(i)})
			if !s.isMax() {
				edges = append(edges, edge{s.end, false, int32(i)})
			}
		}
	}
	if len(edges) == 0 {
		return field{}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.compare(b.at) })
	f.none = b.set()
	at, last := point{}, ^uint32(0)
	var steps steps
	for i := 0; ; {
		for i < len(edges) && edges[i].at == at {
			b.flip(edges[i].rule)
			i++
		}
		if id := b.set(); id != last {
			last = id
			steps.add(at, id)
		}
		if i == len(edges) || width < 64 && edges[i].at.lo>>width != 0 {
			break
		}
		at = edges[i].at
	}
	f.sets, f.refs = slices.Clip(f.sets), slices.Clip(f.refs)
	if width > 32 {
		f.search = search{slices.Clip(steps.first), slices.Clip(steps.value)}
	} else {
		f.trie = steps.trie(width)
	}
	return f
}

// flip makes a rule match from here on, or no longer.
func (b *setBuilder) flip(rule int32) {
	b.now[rule/chunkBits][rule%chunkBits/64] ^= 1 << (rule % 64)
	b.dirty |= 1 << (rule / chunkBits)
}

// set returns the index of the set that matches here.
func (b *setBuilder) set() uint32 {
	if b.small {
		return b.find(b.now[0][0], b.now[0][0], nil)
	}
	for ; b.dirty != 0; b.dirty &= b.dirty - 1 {
		i := bits.TrailingZeros64(b.dirty)
		var r chunkRef
		if b.now[i] != (chunk{}) {
			r = b.store.ref(&b.now[i])
		}
		b.hash ^= mix(i, b.row[i]) ^ mix(i, r)
		b.row[i] = r
	}
	var summary uint64
	var refs [maxChunks]chunkRef
	n := 0
	for i, r := range b.row {
		if r != 0 {
			summary |= 1 << i
			refs[n] = r
			n++
		}
	}
	return b.find(b.hash, summary, refs[:n])
}

// find returns the index of a set, which it adds when there is none like it.
func (b *setBuilder) find(hash, summary uint64, refs []chunkRef) uint32 {
	f := b.out
	for _, id := range b.known[hash] {
		s := f.sets[id]
		if s.summary == summary && slices.Equal(f.refs[s.refs:][:len(refs)], refs) {
			return id
		}
	}
	id := uint32(len(f.sets))
	f.sets = append(f.sets, bitSet{summary, uint32(len(f.refs))})
	f.refs = append(f.refs, refs...)
	b.known[hash] = append(b.known[hash], id)
	return id
}

// mix hashes a reference in its place. Whoever wrote the rules is no enemy.
func mix(i int, r chunkRef) uint64 {
	hi, lo := bits.Mul64(uint64(i+1)<<32|uint64(r), 0x9e3779b97f4a7c15)
	return (hi ^ lo) * 0xd6e8feb86659fd93
}

package vswitch

import (
	"iter"
	"math/bits"
	"slices"
)

// portSet is an immutable set of port indices. A change copies one chunk and the list of chunks, so
// that its cost hardly grows with the number of ports.
type portSet struct {
	chunks []*portBits
	n      int
}

const portsPerChunk = 512

type portBits [portsPerChunk / 64]uint64

func (s portSet) has(i int) bool {
	c := i / portsPerChunk
	return c < len(s.chunks) && s.chunks[c] != nil && s.chunks[c][i%portsPerChunk/64]>>(i%64)&1 != 0
}

// with returns s with or without port i.
func (s portSet) with(i int, member bool) portSet {
	if s.has(i) == member {
		return s
	}
	c := i / portsPerChunk
	chunks := slices.Clone(s.chunks)
	for len(chunks) <= c {
		chunks = append(chunks, nil)
	}
	var b portBits
	if chunks[c] != nil {
		b = *chunks[c]
	}
	b[i%portsPerChunk/64] ^= 1 << (i % 64)
	chunks[c] = &b
	if b == (portBits{}) {
		chunks[c] = nil
	}
	if member {
		return portSet{chunks, s.n + 1}
	}
	return portSet{chunks, s.n - 1}
}

func (s portSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for c, b := range s.chunks {
			if b == nil {
				continue
			}
			for w, v := range b {
				for ; v != 0; v &= v - 1 {
					if !yield(c*portsPerChunk + w*64 + bits.TrailingZeros64(v)) {
						return
					}
				}
			}
		}
	}
}

// portTable is an immutable map from index to port, copied like portSet.
type portTable struct {
	chunks []*[portTableChunk]*portView
}

const portTableChunk = 128

func (t portTable) at(i int) *portView {
	if c := i / portTableChunk; c < len(t.chunks) && t.chunks[c] != nil {
		return t.chunks[c][i%portTableChunk]
	}
	return nil
}

func (t portTable) with(i int, p *portView) portTable {
	c := i / portTableChunk
	chunks := slices.Clone(t.chunks)
	for len(chunks) <= c {
		chunks = append(chunks, nil)
	}
	var b [portTableChunk]*portView
	if chunks[c] != nil {
		b = *chunks[c]
	}
	b[i%portTableChunk] = p
	chunks[c] = &b
	return portTable{chunks}
}

func (t portTable) all() iter.Seq[*portView] {
	return func(yield func(*portView) bool) {
		for _, c := range t.chunks {
			if c == nil {
				continue
			}
			for _, p := range c {
				if p != nil && !yield(p) {
					return
				}
			}
		}
	}
}

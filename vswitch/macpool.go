package vswitch

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

// MACRange is a range of addresses, both ends included.
type MACRange struct{ First, Last ports.MAC }

// defaultMACPoolSize is that of Hyper-V: 256 addresses.
const defaultMACPoolSize = 256

// defaultMACRange returns 256 locally administered addresses, chosen at random so that two hosts on
// one network hardly ever have the same.
func defaultMACRange() MACRange {
	var r MACRange
	rand.Read(r.First[1:5])
	r.First[0] = 0x02
	r.Last = r.First
	r.Last[5] = defaultMACPoolSize - 1
	return r
}

func (r MACRange) size() uint64 { return macNumber(r.Last) - macNumber(r.First) + 1 }

func (r MACRange) contains(m ports.MAC) bool {
	n := macNumber(m)
	return macNumber(r.First) <= n && n <= macNumber(r.Last)
}

func (r MACRange) check() error {
	switch {
	case !r.First.IsUnicast() || !r.Last.IsUnicast():
		return fmt.Errorf("MAC pool %s–%s: both ends must be unicast addresses: %w", r.First, r.Last, ErrInvalid)
	case macNumber(r.First) > macNumber(r.Last):
		return fmt.Errorf("MAC pool %s–%s: the first address is behind the last: %w", r.First, r.Last, ErrInvalid)
	case r.First[0] != r.Last[0]:
		return fmt.Errorf("MAC pool %s–%s: the first octets differ: %w", r.First, r.Last, ErrInvalid)
	}
	return nil
}

func macNumber(m ports.MAC) uint64 {
	return uint64(m[0])<<40 | uint64(binary.BigEndian.Uint32(m[1:]))<<8 | uint64(m[5])
}

func macFromNumber(n uint64) ports.MAC {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return ports.MAC(b[2:])
}

// macPool hands out the addresses of a range, the longest unused ones first, so that one that was
// released does not soon mean another VM.
type macPool struct {
	r    MACRange
	used map[uint64]bool // by offset
	next uint64          // offset
}

func newMACPool(r MACRange) *macPool { return &macPool{r: r, used: map[uint64]bool{}} }

// take returns a free address that is not in use.
func (p *macPool) take() (ports.MAC, error) {
	size := p.r.size()
	if uint64(len(p.used)) >= size {
		return ports.MAC{}, fmt.Errorf("MAC pool %s–%s: all %d addresses are in use: %w", p.r.First, p.r.Last, size, ErrExhausted)
	}
	for p.used[p.next] {
		p.next = (p.next + 1) % size
	}
	o := p.next
	p.used[o] = true
	p.next = (p.next + 1) % size
	return macFromNumber(macNumber(p.r.First) + o), nil
}

func (p *macPool) release(m ports.MAC) { delete(p.used, macNumber(m)-macNumber(p.r.First)) }

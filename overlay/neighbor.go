package overlay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// neighbor is a next hop in the provider network. Workers share it.
type neighbor struct {
	vlan  uint16
	addr  netip.Addr
	mac   atomic.Uint64 // in the upper 48 bits; 0 when not known
	heard atomic.Int64  // time of the last answer
	asked atomic.Int64  // time of the last question; 0 for never
}

const (
	askAgain = int64(time.Second)      // RFC 4861, RetransTimer
	askAnew  = int64(30 * time.Second) // RFC 4861, ReachableTime
)

// resolve returns the MAC address of the neighbor, and whether it is to be asked for now. It is known as
// soon as there has been an answer; an old one is used until there is a new one.
func (n *neighbor) resolve(now time.Duration) (mac ports.MAC, known, ask bool) {
	w := n.mac.Load()
	t := int64(now) + 1
	if w == 0 || t-n.heard.Load() > askAnew {
		last := n.asked.Load()
		ask = (last == 0 || t-last >= askAgain) && n.asked.CompareAndSwap(last, t)
	}
	return (&entry{mac: w}).addr(), w != 0, ask
}

// known returns the MAC address of the neighbor, if there has been an answer.
func (n *neighbor) known() (mac ports.MAC, ok bool) {
	w := n.mac.Load()
	return (&entry{mac: w}).addr(), w != 0
}

// neighbors are the next hops that there have been.
type neighbors struct{ m sync.Map } // neighborKey → *neighbor

type neighborKey struct {
	vlan uint16
	addr netip.Addr
}

func (s *neighbors) of(vlan uint16, addr netip.Addr) *neighbor {
	n, _ := s.m.LoadOrStore(neighborKey{vlan, addr}, &neighbor{vlan: vlan, addr: addr})
	return n.(*neighbor)
}

// heard notes the MAC address of a neighbor, if it is one.
func (s *neighbors) heard(vlan uint16, addr netip.Addr, mac ports.MAC, now time.Duration) {
	if n, ok := s.m.Load(neighborKey{vlan, addr}); ok && mac.IsUnicast() {
		n := n.(*neighbor)
		n.mac.Store(macWord(mac))
		n.heard.Store(int64(now) + 1)
	}
}

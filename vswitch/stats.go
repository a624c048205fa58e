package vswitch

import (
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// counters of a vNIC or NIC; they outlive its ports.
type counters struct {
	rxFrames, rxBytes atomic.Uint64
	paused            atomic.Uint64
	_                 [40]byte // receiving and sending workers differ
	txFrames, txBytes atomic.Uint64
	drops             [numDropReasons]atomic.Uint64
}

func (c *counters) drop(r DropReason, frames int) { c.drops[r].Add(uint64(frames)) }

// received counts a burst that has gone through the switch.
func (c *counters) received(b *burst) {
	c.rxFrames.Add(uint64(len(b.frames)))
	c.rxBytes.Add(b.bytes)
	for i := range b.meta {
		if r := b.meta[i].drop; r != 0 {
			c.drop(r, 1)
		}
	}
}

func (c *counters) stats(name string) PortStats {
	s := PortStats{
		Port:     name,
		RxFrames: c.rxFrames.Load(), RxBytes: c.rxBytes.Load(),
		TxFrames: c.txFrames.Load(), TxBytes: c.txBytes.Load(),
		Paused: c.paused.Load(),
	}
	for r := range c.drops {
		if n := c.drops[r].Load(); n != 0 {
			if s.Drops == nil {
				s.Drops = map[DropReason]uint64{}
			}
			s.Drops[DropReason(r)] = n
		}
	}
	return s
}

// PortStats are the counters of a vNIC or NIC since it was added to its host. Directions are the
// switch's: Rx was received from the port, Tx was sent to it. Bytes are those of the frames without FCS
// and without a tag that rides beside them. A frame that asks for segmentation counts as one,
// and as its segments where it is cut before it is sent.
type PortStats struct {
	Port              string // name of the vNIC or NIC
	RxFrames, RxBytes uint64
	TxFrames, TxBytes uint64
	Paused            uint64                // times that a queue had to wait for the maximum bandwidth
	Drops             map[DropReason]uint64 // only reasons that occurred
}

// Dropped returns the number of frames dropped for any reason.
func (s PortStats) Dropped() uint64 {
	var n uint64
	for _, d := range s.Drops {
		n += d
	}
	return n
}

// SwitchStats are the counters of a switch since it was made.
type SwitchStats struct {
	Ports []PortStats // of the connected ports, by name

	Flooded        uint64 // frames sent to every member of their VLAN
	FloodedUnknown uint64 // those of them whose destination was one station, but not known

	Addresses int    // in the forwarding database now, learned and static
	Learned   uint64 // addresses learned
	Moved     uint64 // times a learned address came to another port
	Damped    uint64 // moves not followed, because the station moved too often
	Evicted   uint64 // learned addresses that made room for others
	Aged      uint64 // learned addresses forgotten because not seen for the ageing time
}

// Address is an entry of the forwarding database.
type Address struct {
	MAC    ports.MAC
	VLAN   uint16        // 0 for untagged frames; for a secondary VLAN its primary
	Port   string        // name of the vNIC or NIC
	Static bool          // configured, not learned
	Age    time.Duration // since it was last seen, to 100 ms; 0 when static
	Moves  uint64        // times it came to another port since it was learned
}

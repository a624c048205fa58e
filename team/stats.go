package team

import (
	"sync/atomic"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team/lacp"
)

// Reason says why the team dropped a frame.
type Reason uint8

// Reasons, of frames that arrived and of frames that were to be sent.
const (
	Runt         Reason = iota // arrived without a whole Ethernet header
	Reflected                  // arrived from an address of the team's own side
	ElsewhereToo               // arrived as one of several copies, of which that at another member counts
	Unsettled                  // arrived just after its destination had got another member; may be a copy
	Unaggregated               // arrived at a member that is not part of the group
	SlowProtocol               // LACPDU or marker that nobody waits for, or too many of them
	QueueFull                  // to a member that has no room, while another has none either
	LinkDown                   // to a member that was not yet known to be down
	Refused                    // by the member for another reason
	Moving                     // while the vNIC moved between members that were both well
	reasons
)

var reasonNames = [reasons]string{"runt", "reflected", "elsewhere too", "unsettled", "unaggregated",
	"slow protocol", "queue full", "link down", "refused", "moving"}

func (r Reason) String() string {
	if r >= reasons {
		return "unknown reason"
	}
	return reasonNames[r]
}

// Reasons returns all reasons in order.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

type counters struct {
	rxFrames, rxBytes atomic.Uint64
	txFrames, txBytes atomic.Uint64
	drops             [reasons]atomic.Uint64
}

func (c *counters) drop(r Reason, n int) { c.drops[r].Add(uint64(n)) }

// Stats are the counters and the state of a team.
type Stats struct {
	Members []MemberStats // in the order in which they were added

	VNICs     int    // known source addresses, one for each VLAN
	Announced uint64 // RARP requests sent
	Moved     uint64 // buckets that dynamic distribution moved for their load
	Failovers uint64 // times that a member was no more in use
}

// MemberStats are those of a member.
type MemberStats struct {
	Name    string
	Link    ports.Link
	Active  bool // frames leave by it
	Primary bool
	Standby bool // frames do not leave by it because others do

	// Share is the part of all buckets that are at the member, 0 – 1.
	Share float64

	RxFrames, RxBytes uint64 // taken
	TxFrames, TxBytes uint64
	Drops             [reasons]uint64 // indexed by Reason

	// LACP is the state of the port in mode LACP, else nil.
	LACP *lacp.Status
}

// Stats returns the counters. They are read one after the other, so while frames flow they may not add up.
func (t *Team) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.snap.Load()
	var at [MaxMembers]int
	for _, slot := range s.at {
		if slot != nobody {
			at[slot]++
		}
	}
	st := Stats{
		VNICs:     len(t.vnics.all(tickOf(t.clock()))),
		Announced: t.announced.Load(),
		Moved:     t.moved.Load(),
		Failovers: t.failovers,
	}
	for _, m := range t.order {
		ms := MemberStats{
			Name: m.name, Link: m.link,
			Active: s.uses(m.slot), Primary: s.primary == m.slot, Standby: m.usable && !s.uses(m.slot),
			Share:    float64(at[m.slot]) / buckets,
			RxFrames: m.count.rxFrames.Load(), RxBytes: m.count.rxBytes.Load(),
			TxFrames: m.count.txFrames.Load(), TxBytes: m.count.txBytes.Load(),
		}
		for r := range ms.Drops {
			ms.Drops[r] = m.count.drops[r].Load()
		}
		if m.port != nil {
			status := m.port.Status()
			ms.LACP = &status
		}
		st.Members = append(st.Members, ms)
	}
	return st
}

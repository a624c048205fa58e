package team

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team/lacp"
)

var slowGroup = addressOfMAC(lacp.Group)

// isSlow reports whether a frame to the group of slow protocols is one of LACP or of markers. Others,
// such as OAM (IEEE 802.3, clause 57), are not the team's business.
func isSlow(f *ports.Frame, head []byte) bool {
	return f.VLAN.TPID == 0 && len(head) > etherLen &&
		binary.BigEndian.Uint16(head[macsLen:]) == lacp.EtherType && (head[etherLen] == 1 || head[etherLen] == 2)
}

// inbox is where a receive queue puts PDUs for the team's own goroutine.
type inbox struct {
	mu    sync.Mutex
	n     int
	pdus  [8][lacp.PDULen]byte
	lens  [8]int
	since uint32 // tick from which on count counts
	count int
}

// maxSlow is how many PDUs of a member the team's goroutine wakes up for in a second: more than ten for
// each of two slow protocols (IEEE 802.3, 57A.2) are nothing but a nuisance.
const maxSlow = 24

func (b *inbox) put(pdu []byte, tick uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if tick-b.since > uint32(time.Second>>tickShift) {
		b.since, b.count = tick, 0
	}
	if b.n == len(b.pdus) || b.count == maxSlow {
		return false
	}
	b.count++
	b.lens[b.n] = copy(b.pdus[b.n][:], pdu)
	b.n++
	return true
}

// empty calls receive with what is there.
func (b *inbox) empty(receive func(pdu []byte)) {
	for {
		var pdu [lacp.PDULen]byte
		b.mu.Lock()
		if b.n == 0 {
			b.mu.Unlock()
			return
		}
		n := copy(pdu[:], b.pdus[0][:b.lens[0]])
		b.n--
		copy(b.pdus[:b.n], b.pdus[1:])
		copy(b.lens[:b.n], b.lens[1:])
		b.mu.Unlock()
		receive(pdu[:n])
	}
}

// takeSlow takes an LACPDU or a marker from a member.
func (t *Team) takeSlow(m *member, f *ports.Frame, tick uint32) Reason {
	if t.cfg.Mode != LACP || !m.inbox.put(f.Head()[etherLen:], tick) {
		return SlowProtocol
	}
	t.kick()
	return slow
}

// slowRetry is how soon a PDU is sent again for which there was no room.
const slowRetry = 2 * time.Millisecond

// runLACP lets the machines see what has happened, and sends what they have to say.
func (t *Team) runLACP(now time.Duration) {
	for _, m := range t.order {
		m.inbox.empty(func(pdu []byte) { m.port.Receive(now, pdu) })
	}
	t.agg.Advance(now)
	for _, m := range t.order {
		if m.pending != nil {
			t.sendSlow(m, m.pending)
		}
	}
	for p, pdu := range t.agg.Output(now) {
		m := t.members[p.Number()-1]
		src := m.mac
		if src.IsZero() {
			src = t.info.MAC
		}
		buf := make([]byte, ports.Headroom, ports.Headroom+etherLen+len(pdu))
		buf = append(buf, lacp.Group[:]...)
		buf = append(buf, src[:]...)
		buf = binary.BigEndian.AppendUint16(buf, lacp.EtherType)
		buf = append(buf, pdu...)
		f := new(ports.Frame)
		f.SetHead(buf, ports.Headroom, len(buf)-ports.Headroom)
		t.sendSlow(m, f)
	}
}

// sendSlow sends a frame at once or, when there is no room, soon; a newer one takes its place.
func (t *Team) sendSlow(m *member, f *ports.Frame) {
	m.pending = nil
	n, err := m.tx[0].send([]*ports.Frame{f})
	if n == 0 && err == nil {
		m.pending = f
	}
}

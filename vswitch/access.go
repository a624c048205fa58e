package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// sentByVM drops what the ACL of the vNIC does not let its VM send.
func sentByVM(policy *acl.Policy, state *acl.State) stage {
	return func(b *burst) {
		b.parse()
		packets := b.packets[:0]
		for i := range b.frames {
			if b.meta[i].drop == 0 {
				packets = append(packets, b.packet(i))
			}
		}
		state.Check(policy, acl.Out, b.clock, packets)
		n := 0
		for i := range b.frames {
			if m := &b.meta[i]; m.drop == 0 {
				if !packets[n].Verdict.Allowed() {
					m.drop = DropACLOut
				}
				n++
			}
		}
	}
}

// receivedByVM takes from a group the frames that the ACL of the vNIC does not let its VM receive.
func receivedByVM(b *burst, to *portView, frames []*ports.Frame, index []uint16) []*ports.Frame {
	b.parse()
	packets := b.packets[:0]
	for _, i := range index {
		packets = append(packets, b.packet(int(i)))
	}
	to.connections.Check(to.acl, acl.In, b.clock, packets)
	b.admitted = b.admitted[:0]
	for n := range packets {
		if packets[n].Verdict.Allowed() {
			b.admitted = append(b.admitted, frames[n])
		}
	}
	if denied := len(packets) - len(b.admitted); denied > 0 {
		to.count.drop(DropACLIn, denied)
	}
	return b.admitted
}

// packet returns frame i as an ACL sees it.
func (b *burst) packet(i int) acl.Packet {
	return acl.Packet{Head: b.frames[i].Head(), Header: &b.headers[i], Len: int(b.meta[i].len), Isolation: uint32(b.meta[i].vid())}
}

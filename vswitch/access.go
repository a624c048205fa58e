package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// sentByVM drops what the ACL of the vNIC does not let its VM send.
func sentByVM(policy *acl.Policy, state *acl.State) stage {
	return func(b *burst) {
		b.parse()
		n := 0
		for i := range b.frames {
			if b.meta[i].drop == 0 {
				b.describe(&b.packets[n], i)
				n++
			}
		}
		state.Check(policy, acl.Out, b.clock, b.packets[:n])
		n = 0
		for i := range b.frames {
			if m := &b.meta[i]; m.drop == 0 {
				if !b.packets[n].Verdict.Allowed() {
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
	packets := b.packets[:len(index)]
	for n, i := range index {
		b.describe(&packets[n], int(i))
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

// describe makes p frame i as an ACL sees it.
func (b *burst) describe(p *acl.Packet, i int) {
	p.Head = b.frames[i].Head()
	if h := &b.headers[i]; p.Header != h { // it seldom is: a store of a pointer costs more
		p.Header = h
	}
	p.Len, p.Isolation = int(b.meta[i].len), uint32(b.meta[i].vid())
}

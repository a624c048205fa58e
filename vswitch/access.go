package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// sentByVM drops what the ACL of the vNIC does not let its VM send.
func sentByVM(policy *acl.Policy, state *acl.State) func(*burst) {
	return func(b *burst) {
		b.parse()
		if b.trace != nil {
			if v := b.peek(policy, state, acl.Out, 0, b.in); !v.Allowed() {
				b.meta[0].drop = DropACLOut
			}
			return
		}
		j := state.Begin(policy, acl.Out, b.clock)
		if j.Far() {
			for i, f := range b.frames {
				if m := &b.meta[i]; m.drop == 0 {
					j.Fetch(f.Head(), &b.headers[i], b.in.isolation(m))
				}
			}
		}
		meta, headers := b.meta[:len(b.frames)], b.headers[:len(b.frames)]
		for i, f := range b.frames {
			m := &meta[i]
			if m.drop == 0 && !j.Check(f.Head(), &headers[i], int(m.len), b.in.isolation(m)).Allowed() {
				m.drop = DropACLOut
			}
		}
		j.End()
	}
}

// peek returns the verdict on frame i of Explain.
func (b *burst) peek(policy *acl.Policy, state *acl.State, d acl.Direction, i int, at *portView) acl.Verdict {
	m := &b.meta[i]
	v := state.Peek(policy, d, b.clock, b.frames[i].Head(), &b.headers[i], int(m.len), at.isolation(m))
	b.trace.note("%s", policy.Describe(v))
	return v
}

// receivedByVM takes from a group the frames that the ACL of the vNIC does not let its VM receive.
func receivedByVM(b *burst, to *portView, frames []*ports.Frame, index []uint16) []*ports.Frame {
	b.parse()
	j := to.connections.Begin(to.acl, acl.In, b.clock)
	if j.Far() {
		for n, i := range index {
			j.Fetch(frames[n].Head(), &b.headers[i], to.isolation(&b.meta[i]))
		}
	}
	b.admitted = b.admitted[:0]
	for n, i := range index {
		f, m := frames[n], &b.meta[i]
		if j.Check(f.Head(), &b.headers[i], int(m.len), to.isolation(m)).Allowed() {
			b.admitted = append(b.admitted, f)
		}
	}
	j.End()
	if denied := len(frames) - len(b.admitted); denied > 0 {
		to.count.drop(DropACLIn, denied)
	}
	return b.admitted
}

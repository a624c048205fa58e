package vswitch

import "github.com/hvswitch/hvswitch/internal/guard"

// guards drops what the guards of the port refuse.
func guards(p *guard.Program) func(*burst) {
	return func(b *burst) {
		b.parse()
		meta, headers := b.meta[:len(b.frames)], b.headers[:len(b.frames)]
		for i, f := range b.frames {
			m := &meta[i]
			if m.drop != 0 {
				continue
			}
			if r := p.Check(f, &headers[i]); r != guard.Pass {
				m.drop = guardDrops[r]
			}
		}
	}
}

// limitAddresses drops what comes from more IP addresses than the guest may use.
func limitAddresses(l *guard.Limit) func(*burst) {
	return func(b *burst) {
		b.parse()
		for i, f := range b.frames {
			m := &b.meta[i]
			if m.drop != 0 {
				continue
			}
			admit := l.Admit
			if b.trace != nil {
				admit = l.Peek
			}
			if !admit(f, &b.headers[i], b.clock) {
				m.drop = DropAddressLimit
			}
		}
	}
}

// limitStorm drops what is to be flooded beyond the rate that the guest may.
func limitStorm(l *guard.Storm) func(*burst) {
	return func(b *burst) {
		n := 0
		for i := range b.meta {
			if b.meta[i].flooded() {
				n++
			}
		}
		if b.trace != nil {
			if n > 0 && !l.Peek(b.clock) {
				b.meta[0].drop = DropStormLimit
			}
			return
		}
		granted := l.Take(n, b.clock)
		if granted == n {
			return
		}
		for i := range b.meta {
			if m := &b.meta[i]; m.flooded() {
				if granted--; granted < 0 {
					m.drop = DropStormLimit
				}
			}
		}
	}
}

var guardDrops = [...]DropReason{
	guard.Malformed:     DropMalformed,
	guard.Encapsulated:  DropEncapsulated,
	guard.BadFragment:   DropBadFragment,
	guard.DHCPServer:    DropDHCPServer,
	guard.RouterMessage: DropRouterMessage,
	guard.SourceAddress: DropSourceAddress,
	guard.FalseARP:      DropFalseARP,
	guard.FalseND:       DropFalseND,
	guard.AddressLimit:  DropAddressLimit,
	guard.StormLimit:    DropStormLimit,
}

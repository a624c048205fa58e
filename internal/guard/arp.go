package guard

const etherTypeRARP = 0x8035 // RFC 903

// Operations of ARP (RFC 826) and RARP (RFC 903).
const (
	arpRequest  = 1
	arpReply    = 2
	rarpRequest = 3
)

// Fields of an ARP packet for IPv4 over Ethernet, from its start.
const (
	arpOp             = 6
	arpSenderHardware = 8
	arpSender         = 14
	arpTargetHardware = 18
	arpTarget         = 24
	arpLen            = 28
)

// arp judges an ARP packet, whose sender must be the vNIC: with its hardware address and an assigned
// address, as receivers enter both in their tables, from requests too.
//
// A probe has no sender address (RFC 5227, section 1.1). It defends its target against others who probe
// (section 2.1.1), so that must be assigned: else it would keep them from taking their own.
func (p *Program) arp(s *subject) Reason {
	if !p.inspect {
		return Pass
	}
	a := s.head[s.l3 : s.l3+arpLen]
	op, sender, target := word16(a, arpOp), word32(a, arpSender), word32(a, arpTarget)
	switch {
	case loadMAC(a[arpSenderHardware:]) != p.hardware(s):
		return FalseARP
	case op == arpRequest && sender == 0:
		if !p.assigned.has4(target) {
			return FalseARP
		}
	case op != arpRequest && op != arpReply || !p.assigned.has4(sender):
		return FalseARP
	}
	return Pass
}

// rarp judges a RARP packet. Switches learn from requests where a station is, which is what VMMs send
// them for; nobody may answer.
func (p *Program) rarp(s *subject) Reason {
	if !p.inspect {
		return Pass
	}
	if len(s.head) < s.l3+arpLen || !s.frame.Offload.IsZero() {
		return FalseARP
	}
	a, hw := s.head[s.l3:s.l3+arpLen], p.hardware(s)
	sender := word32(a, arpSender)
	if word16(a, arpOp) != rarpRequest || sender != 0 && !p.assigned.has4(sender) ||
		loadMAC(a[arpSenderHardware:]) != hw || loadMAC(a[arpTargetHardware:]) != hw {
		return FalseARP
	}
	return Pass
}

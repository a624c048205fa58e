package guard

// ICMPv6 types of Neighbor Discovery that hosts send (RFC 4861, section 4).
const (
	icmpRouterSolicitation    = 133
	icmpNeighborSolicitation  = 135
	icmpNeighborAdvertisement = 136
)

// Options that bind an IP address to a link-layer address (RFC 4861, section 4.6.1).
const (
	ndSourceLinkLayer = 1
	ndTargetLinkLayer = 2
	ndLinkLayerLen    = 8 // for Ethernet (RFC 2464, section 6)
)

// Places in messages of Neighbor Discovery, from the type on.
const (
	ndTarget               = 8 // of solicitations and advertisements of neighbors
	ndSolicitationOptions  = 8 // of routers
	ndAdvertisementOptions = 16
	ndNeighborOptions      = 24
)

// nd judges a message of Neighbor Discovery of type t, which is whole and has no fragment header. The
// sender must be the vNIC: with an assigned source, its hardware address in the options, and in
// advertisements an assigned target.
//
// A solicitation from :: claims its target (duplicate address detection, RFC 4862, section 5.4.3): it
// keeps others from taking that address, so it must be assigned.
//
// Redirects bind the address of another station; where no router guard is on, they pass.
func (p *Program) nd(s *subject, t byte) Reason {
	at := int(s.L4)
	src := load6(s.head, s.l3+8)
	unspecified := src == addr6{}
	if !unspecified && !p.has6(s, src) {
		return FalseND
	}
	options := at
	switch t {
	case icmpRouterSolicitation:
		options += ndSolicitationOptions
	case icmpRouterAdvertisement6:
		if unspecified {
			return FalseND
		}
		options += ndAdvertisementOptions
	case icmpNeighborSolicitation, icmpNeighborAdvertisement:
		options += ndNeighborOptions
		if options > min(s.end, len(s.head)) {
			return FalseND
		}
		target := load6(s.head, at+ndTarget)
		switch {
		case target.multicast():
			return FalseND
		case t == icmpNeighborSolicitation && !unspecified: // asks for another
		case t == icmpNeighborAdvertisement && unspecified, !p.has6(s, target):
			return FalseND
		}
	default:
		return Pass
	}
	return p.ndOptions(s, t, options, unspecified)
}

// ndOptions judges the options of a message, which begin at at. What is not in sight cannot be judged, so
// messages of hosts drop that are so long; only signed ones are (RFC 3971, section 5.2). Advertisements of
// a router, which a guest sends where there is no router guard, may be long; the part in sight is judged.
func (p *Program) ndOptions(s *subject, t byte, at int, unspecified bool) Reason {
	sight := min(s.end, len(s.head))
	if sight < s.end && t != icmpRouterAdvertisement6 || at > sight {
		return FalseND
	}
	for at < sight {
		if at+2 > sight {
			return FalseND
		}
		kind, n := s.head[at], int(s.head[at+1])*8
		if n == 0 || at+n > s.end {
			return FalseND // RFC 4861, section 4.6: discarded
		}
		if kind == ndSourceLinkLayer || kind == ndTargetLinkLayer {
			// There is no source to bind to (RFC 4861, sections 4.1 and 4.3).
			if unspecified || n != ndLinkLayerLen || at+n > sight || loadMAC(s.head[at+2:]) != p.hardware(s) {
				return FalseND
			}
		}
		at += n
	}
	return Pass
}

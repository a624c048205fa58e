package overlay

import (
	"net/netip"

	"github.com/hvswitch/hvswitch/ports"
)

// NextHop is where packets from one customer address to another go (Select-NetVirtualizationNextHop).
type NextHop struct {
	Routed  bool       // by the router of the sender's subnet
	VSID    VSID       // the subnet in which it is delivered
	Address netip.Addr // customer address there: of the receiver, of a gateway, or of the router itself
	MAC     ports.MAC  // of Address

	// Record is the one that Address goes by; the zero record when Address is the router's.
	Record LookupRecord

	// Source is the provider address of the sender. Via is the next hop to Record.PA in the provider
	// network, and ViaMAC its MAC address, zero while that is not known; there is none on one host.
	Source netip.Addr
	Via    netip.Addr
	ViaMAC ports.MAC
}

// NextHop returns where packets of a VM on this host in a virtual subnet go that are from one customer
// address to another, or the reason why nowhere.
func (e *Engine) NextHop(vsid VSID, from, to netip.Addr) (h NextHop, drop Drop) {
	s := e.snap.Load()
	v := view{snap: s, e: e}
	sub := s.subnets.get(uint32(vsid))
	if sub == nil {
		return h, DropUnknownVSID
	}
	if !isUnicast(from) || !isUnicast(to) || from.Is4() != to.Is4() {
		return h, DropMalformed
	}
	src := v.resolve(vsid, caOf(from))
	if src == nil {
		return h, DropSource
	}
	local := s.peers[src.peer].local
	if local < 0 {
		return h, DropNotHere
	}
	h.VSID, h.Address, h.Source = vsid, to, s.peers[src.peer].addr
	a := caOf(to)
	if sub.isRouter(a) {
		h.MAC = sub.router
		return h, 0
	}
	r, ok := s.domains.get(sub.domain).lookup(a)
	in := sub
	if ok {
		in = s.subnets.get(uint32(r.vsid))
	}
	if !ok || in == nil || in.domain != sub.domain {
		return h, DropNoRoute
	}
	h.VSID, h.Routed = r.vsid, !r.onLink || r.vsid != vsid
	var n *entry
	switch {
	case in.isRouter(a):
		h.MAC = in.router
		return h, 0
	case !r.onLink:
		h.Address = addrOf(r.hop)
		n = v.resolve(r.vsid, r.hop)
	case h.Routed:
		n = v.receiver(r.vsid, a)
	default:
		n = v.resolve(r.vsid, a)
	}
	if n == nil {
		return h, DropNoRecord
	}
	h.Record, h.MAC = s.record(n), n.addr()
	peer := s.peers[n.peer]
	if peer.local >= 0 {
		return h, 0
	}
	if local >= len(peer.paths) || peer.paths[local].hop == nil {
		return h, DropNoProvider
	}
	h.Via = peer.paths[local].hop.addr
	h.ViaMAC, _ = peer.paths[local].hop.known()
	return h, 0
}

// AddressesOf returns the customer addresses that a MAC address in a virtual subnet has, by records and
// learned, in no particular order. It looks at every record.
func (e *Engine) AddressesOf(vsid VSID, mac ports.MAC) (all []netip.Addr) {
	for _, records := range []func(func(LookupRecord) bool){e.Records(), e.Learned()} {
		for r := range records {
			if r.VSID == vsid && r.MAC == mac && r.CA.IsValid() && !r.CA.IsUnspecified() {
				all = append(all, r.CA)
			}
		}
	}
	return all
}

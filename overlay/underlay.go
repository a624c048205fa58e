package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// underlay deals with frames of the provider network that are not encapsulated: it answers for the
// provider addresses of this host and notes where next hops are.
func (w *Worker) underlay(f *ports.Frame) {
	b, h := f.Head(), &w.h
	h.Parse(b, f.Len())
	vlan := f.VLAN.VID()
	switch {
	case h.Reason != header.OK || h.Flags&header.Tagged != 0:
	case !f.Offload.IsZero() && segment.CheckParsed(f, h) != nil:
	case h.Flags&header.ARP != 0:
		a := b[h.L3 : h.L3+arpLen]
		w.heard(vlan, netip.AddrFrom4([4]byte(a[14:])), ports.MAC(a[8:]))
		pa := w.ours(netip.AddrFrom4([4]byte(a[24:])), vlan)
		if pa != nil && binary.BigEndian.Uint16(a[6:]) == arpRequest {
			makeARPReply(b, int(h.L3), pa.MAC)
			w.toProvider(f)
			return
		}
	case isND(b, h, typeNA):
		if o := b[h.L4+ndLen:]; len(o) >= 8 && o[0] == 2 && o[1] == 1 {
			w.heard(vlan, netip.AddrFrom16([16]byte(b[h.L4+8:])), ports.MAC(o[2:]))
		}
	case isSolicitation(b, h):
		if pa := w.ours(netip.AddrFrom16([16]byte(b[h.L4+8:])), vlan); pa != nil {
			if o := b[h.L4+ndLen:]; len(o) >= 8 && o[0] == 1 && o[1] == 1 {
				w.heard(vlan, netip.AddrFrom16([16]byte(b[h.L3+8:])), ports.MAC(o[2:]))
			}
			g := w.advertisement(b, h, pa.MAC, flagOverride)
			g.VLAN = f.VLAN
			w.toProvider(g)
			return
		}
	case h.Flags&(header.IPv4|header.IPv6) != 0:
		_, dst := h.Addrs(b)
		if pa := w.ours(dst, vlan); pa != nil && ports.MAC(b) == pa.MAC && makeEchoReply(f, h) {
			w.toProvider(f)
			return
		}
	}
	w.drop(f, DropNotTunnel)
}

func (w *Worker) heard(vlan uint16, addr netip.Addr, mac ports.MAC) {
	if w.notes == nil {
		w.e.neighbors.heard(vlan, addr, mac, w.now)
	}
}

// ours returns the provider address of this host that a is, in that VLAN, or nil.
func (w *Worker) ours(a netip.Addr, vlan uint16) *ProviderAddress {
	p := w.snap.provider
	if i := p.local(a); i >= 0 && p.Addresses[i].VLAN == vlan {
		return &p.Addresses[i]
	}
	return nil
}

package overlay

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Concerns reports whether Worker.Inbound is to see a frame of the provider network that is in a VLAN of it, 0 for
// none: it is to the MAC address of a provider address there or, by ARP or Neighbor Discovery, to all.
// Others are as if Inbound dropped them as DropNotTunnel. The frame, with its tag beside it, is not
// changed.
func (e *Engine) Concerns(f *ports.Frame, vlan uint16) bool {
	b := f.Head()
	if len(b) < ethernetLen {
		return false
	}
	p := e.snap.Load().provider
	group := b[0]&1 != 0
	for i := range p.Addresses {
		if a := &p.Addresses[i]; a.VLAN == vlan && (group || a.MAC == ports.MAC(b)) {
			return !group || resolves(b)
		}
	}
	return false
}

// resolves reports whether a frame is of ARP or ICMPv6.
func resolves(b []byte) bool {
	switch binary.BigEndian.Uint16(b[12:]) {
	case typeARP:
		return true
	case typeIPv6:
		return len(b) >= ethernetLen+ipv6Len && b[ethernetLen+6] == header.ICMPv6
	}
	return false
}

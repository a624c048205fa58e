package guard

import (
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// EtherTypes behind which another one may stand (IEEE registration authority).
const (
	etherType8021Q       = 0x8100
	etherType8021AD      = 0x88a8
	etherTypeOUIExtended = 0x88b7 // IEEE 802, clause 9.2.4
	etherTypeJumboLLC    = 0x8870 // draft-ietf-isis-ext-eth

	etherTypeLeast = 0x0600 // below is a length (IEEE 802.3, 3.2.6)
)

// IEEE 802.2 service access points. The lowest bit says individual or group.
const (
	lsapIP   = 0x06 // RFC 948
	lsapARP  = 0x98
	lsapSNAP = 0xaa
)

// encapsulated reports whether a frame that the parser takes for another protocol than IP and ARP could
// hold one of them all the same, to some station: in the forms of 802.2 that Windows, and wireless
// bridges, take to be the same as Ethernet, or behind tags that follow SNAP. The known ways around the
// guards of switches, Hyper-V's among them, are of this kind (CVE-2020-17040, CVE-2021-28444,
// CVE-2022-21905, CERT/CC VU#855201). Nobody leaves a checksum in such a frame to be done; it could write
// the bytes that are looked at.
func encapsulated(f *ports.Frame, h *header.Header, head []byte) bool {
	b := head[min(int(h.L3), len(head)):]
	switch t := h.EtherType; {
	case t < etherTypeLeast, t == etherTypeJumboLLC:
		return hidingLLC(b) || !f.Offload.IsZero()
	case t == etherTypeOUIExtended:
		return hidingOUI(b) || !f.Offload.IsZero()
	case t == etherType8021Q, t == etherType8021AD:
		return true // behind SNAP only: the parser takes tags away in front of it
	}
	return false
}

// hidingLLC reports whether b begins with an 802.2 header behind which IP or ARP may follow. Of SNAP the
// parser knows one form, and has left the others to us; the length in front of it says nothing (Windows
// ignores it).
func hidingLLC(b []byte) bool {
	if len(b) < 3 {
		return false
	}
	switch b[0] &^ 1 {
	case lsapIP, lsapARP:
		return true
	case lsapSNAP:
		return hidingOUI(b[3:])
	}
	return false
}

// hidingOUI reports whether b begins with an organization code whose protocols are EtherTypes:
// 00-00-00 (RFC 1042) and 00-00-f8 (IEEE 802.1H).
func hidingOUI(b []byte) bool {
	return len(b) >= 5 && b[0] == 0 && b[1] == 0 && (b[2] == 0 || b[2] == 0xf8)
}

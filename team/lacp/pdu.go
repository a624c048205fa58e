package lacp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

// EtherType is that of the slow protocols (IEEE 802.3, annex 57A).
const EtherType = 0x8809

// Group is the destination of all their frames (IEEE 802.3, 57A.3); no bridge forwards it.
var Group = ports.MAC{0x01, 0x80, 0xc2, 0x00, 0x00, 0x02}

// PDULen is the length of a PDU that this package sends, from the subtype on (6.4.2.3, 6.5.3.3).
const PDULen = 110

// SystemID names a system. The lower one, by priority and then address, decides which links are used
// when not all can be (6.7.1).
type SystemID struct {
	Priority uint16
	MAC      ports.MAC
}

func (s SystemID) compare(t SystemID) int {
	return cmp.Or(cmp.Compare(s.Priority, t.Priority),
		cmp.Compare(binary.BigEndian.Uint64(append([]byte{0, 0}, s.MAC[:]...)),
			binary.BigEndian.Uint64(append([]byte{0, 0}, t.MAC[:]...))))
}

// PortID names a port of a system. The lower one, by priority and then number, is used first.
type PortID struct {
	Priority uint16
	Number   uint16
}

func (p PortID) compare(q PortID) int {
	return cmp.Or(cmp.Compare(p.Priority, q.Priority), cmp.Compare(p.Number, q.Number))
}

// PortInfo is what an LACPDU says of one end of a link.
type PortInfo struct {
	System SystemID
	Key    uint16 // ports of a system with the same key can be aggregated
	Port   PortID
	State  State
}

// identity is PortInfo without what may change while a link stays in its group.
func (i PortInfo) identity() PortInfo {
	i.State &= Aggregation
	return i
}

// PDU is an LACPDU (6.4.2.3).
type PDU struct {
	Actor, Partner PortInfo

	// MaxDelay is how long the sender may keep a frame that it has collected, in tens of
	// microseconds.
	MaxDelay uint16
}

// Errors of ParsePDU and ParseMarker.
var (
	ErrSubtype = errors.New("subtype of another protocol")
	ErrShort   = errors.New("cut off")
	ErrTLV     = errors.New("TLV missing or of a wrong length")
)

const (
	subtypeLACP   = 1
	subtypeMarker = 2

	version = 1

	tlvActor     = 1
	tlvPartner   = 2
	tlvCollector = 3

	infoLen      = 20
	collectorLen = 16
)

// ParsePDU decodes an LACPDU from its subtype on. As 6.4.2.4 has it, neither version nor reserved fields
// nor what follows the partner's information is checked, so PDUs of version 2 are understood; and as some
// systems leave out the rest, they may.
func ParsePDU(b []byte) (PDU, error) {
	var p PDU
	if len(b) < 2 {
		return p, fmt.Errorf("LACPDU: %w", ErrShort)
	}
	if b[0] != subtypeLACP {
		return p, fmt.Errorf("LACPDU: subtype %d: %w", b[0], ErrSubtype)
	}
	b = b[2:]
	for _, part := range []struct {
		kind byte
		info *PortInfo
	}{{tlvActor, &p.Actor}, {tlvPartner, &p.Partner}} {
		if len(b) < infoLen {
			return PDU{}, fmt.Errorf("LACPDU: TLV %d: %w", part.kind, ErrShort)
		}
		if b[0] != part.kind || b[1] != infoLen {
			return PDU{}, fmt.Errorf("LACPDU: TLV %d: %w", part.kind, ErrTLV)
		}
		*part.info = parseInfo(b)
		b = b[infoLen:]
	}
	if len(b) >= collectorLen && b[0] == tlvCollector && b[1] == collectorLen {
		p.MaxDelay = binary.BigEndian.Uint16(b[2:])
	}
	return p, nil
}

func parseInfo(b []byte) PortInfo {
	return PortInfo{
		System: SystemID{Priority: binary.BigEndian.Uint16(b[2:]), MAC: ports.MAC(b[4:10])},
		Key:    binary.BigEndian.Uint16(b[10:]),
		Port:   PortID{Priority: binary.BigEndian.Uint16(b[12:]), Number: binary.BigEndian.Uint16(b[14:])},
		State:  State(b[16]),
	}
}

// Append appends the PDU in the form of version 1, PDULen bytes from its subtype on, and returns the
// extended slice.
func (p *PDU) Append(b []byte) []byte {
	end := len(b) + PDULen
	b = append(b, subtypeLACP, version)
	b = p.Actor.appendTLV(b, tlvActor)
	b = p.Partner.appendTLV(b, tlvPartner)
	b = append(b, tlvCollector, collectorLen)
	b = binary.BigEndian.AppendUint16(b, p.MaxDelay)
	return append(b, make([]byte, end-len(b))...) // reserved, terminator, reserved
}

func (i *PortInfo) appendTLV(b []byte, kind byte) []byte {
	b = append(b, kind, infoLen)
	b = binary.BigEndian.AppendUint16(b, i.System.Priority)
	b = append(b, i.System.MAC[:]...)
	b = binary.BigEndian.AppendUint16(b, i.Key)
	b = binary.BigEndian.AppendUint16(b, i.Port.Priority)
	b = binary.BigEndian.AppendUint16(b, i.Port.Number)
	return append(b, byte(i.State), 0, 0, 0)
}

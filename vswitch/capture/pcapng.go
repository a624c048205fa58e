package capture

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Blocks and options of pcapng (draft-ietf-opsawg-pcapng, section 4), in little-endian byte order.
const (
	blockSection    = 0x0a0d0d0a // 4.1
	blockInterface  = 1          // 4.2
	blockPacket     = 6          // 4.3, Enhanced Packet Block
	blockStatistics = 5          // 4.6

	byteOrderMagic = 0x1a2b3c4d
	lengthNotKnown = 1<<64 - 1 // of a section
	linkEthernet   = 1         // LINKTYPE_ETHERNET

	optEnd     = 0
	optComment = 1

	optSectionApplication = 4

	optInterfaceName        = 2
	optInterfaceDescription = 3
	optInterfaceMAC         = 6
	optInterfaceSpeed       = 8
	optInterfaceResolution  = 9
	optInterfaceFilter      = 11

	optPacketFlags = 2
	flagInbound    = 1 // of the packet flags word, bits 0 and 1 (4.3.1)
	flagOutbound   = 2

	optStatisticsStart     = 2
	optStatisticsEnd       = 3
	optStatisticsReceived  = 4
	optStatisticsDropped   = 5
	optStatisticsAccepted  = 6
	optStatisticsDelivered = 8
)

var le = binary.LittleEndian

// beginBlock appends the type of a block and room for its length; endBlock completes the block that begins
// at start.
func beginBlock(b []byte, kind uint32) []byte {
	b = le.AppendUint32(b, kind)
	return le.AppendUint32(b, 0)
}

func endBlock(b []byte, start int) []byte {
	n := uint32(len(b) - start + 4)
	le.PutUint32(b[start+4:], n)
	return le.AppendUint32(b, n)
}

func appendOption[T string | []byte](b []byte, code uint16, value T) []byte {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

func appendOption64(b []byte, code uint16, v uint64) []byte {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, 8)
	return le.AppendUint64(b, v)
}

func appendSectionHeader(b []byte) []byte {
	start := len(b)
	b = beginBlock(b, blockSection)
	b = le.AppendUint32(b, byteOrderMagic)
	b = le.AppendUint16(b, 1) // version 1.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, lengthNotKnown)
	b = appendOption(b, optSectionApplication, "hvswitch")
	b = le.AppendUint32(b, optEnd)
	return endBlock(b, start)
}

func appendInterface(b []byte, p *extension.Port, snapLen int, filter string) []byte {
	start := len(b)
	b = beginBlock(b, blockInterface)
	b = le.AppendUint32(b, linkEthernet) // 16 bits, and 16 reserved ones
	b = le.AppendUint32(b, uint32(snapLen))
	b = appendOption(b, optInterfaceName, clip(p.Switch+"/"+p.Name))
	b = appendOption(b, optInterfaceDescription, clip(fmt.Sprintf("%s %q of switch %q", p.Kind, p.Name, p.Switch)))
	if !p.MAC.IsZero() {
		b = appendOption(b, optInterfaceMAC, p.MAC[:])
	}
	if p.Speed != 0 {
		b = appendOption64(b, optInterfaceSpeed, p.Speed)
	}
	b = appendOption(b, optInterfaceResolution, []byte{9}) // 10⁻⁹ s
	if filter != "" {
		b = appendOption(b, optInterfaceFilter, "\x00"+clip(filter)) // 0: as text
	}
	b = le.AppendUint32(b, optEnd)
	return endBlock(b, start)
}

// clip makes a text one that an option can hold: UTF-8 of less than 64 KiB.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 16<<10)], "\ufffd") }

func appendTime(b []byte, ns uint64) []byte {
	b = le.AppendUint32(b, uint32(ns>>32))
	return le.AppendUint32(b, uint32(ns))
}

// appendPacket appends a frame of a record. comment is an option, or nothing.
func appendPacket(b []byte, r record, original int, data, comment []byte) []byte {
	const header, trailer = 28, 16
	at := header + (len(data)+3)&^3
	n := at + len(comment) + trailer
	b = slices.Grow(b, n)
	p := b[len(b) : len(b)+n]
	stamp := r.stamp()
	le.PutUint32(p, blockPacket)
	le.PutUint32(p[4:], uint32(n))
	le.PutUint32(p[8:], r.id())
	le.PutUint32(p[12:], uint32(stamp>>32))
	le.PutUint32(p[16:], uint32(stamp))
	le.PutUint32(p[20:], uint32(len(data)))
	le.PutUint32(p[at-4:], 0) // the padding; without data it is the next field
	le.PutUint32(p[24:], uint32(original))
	copy(p[header:], data)
	if len(comment) > 0 {
		at += copy(p[at:], comment)
	}
	flags := uint32(flagInbound)
	if extension.Direction(r.direction()) == extension.Egress {
		flags = flagOutbound
	}
	p = p[at : at+trailer]
	le.PutUint32(p, optPacketFlags|4<<16)
	le.PutUint32(p[4:], flags)
	le.PutUint32(p[8:], optEnd)
	le.PutUint32(p[12:], uint32(n))
	return b[:len(b)+n]
}

// appendStatistics appends the counters of a port, between start and end in nanoseconds since 1970.
func appendStatistics(b []byte, p *port, start, end int64) []byte {
	at := len(b)
	b = beginBlock(b, blockStatistics)
	b = le.AppendUint32(b, p.id)
	b = appendTime(b, uint64(end))
	b = appendTime(le.AppendUint32(b, optStatisticsStart|8<<16), uint64(start))
	b = appendTime(le.AppendUint32(b, optStatisticsEnd|8<<16), uint64(end))
	b = appendOption64(b, optStatisticsReceived, p.received)
	b = appendOption64(b, optStatisticsDropped, p.accepted-p.delivered)
	b = appendOption64(b, optStatisticsAccepted, p.accepted)
	b = appendOption64(b, optStatisticsDelivered, p.delivered)
	b = le.AppendUint32(b, optEnd)
	return endBlock(b, at)
}

package capture

import (
	"encoding/binary"
	"fmt"
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

// An Enhanced Packet Block without a comment is a header, the data, filled up to 4 bytes, and a trailer:
// the packet flags, the end of the options, and the length.
const (
	packetHeader  = 28
	packetTrailer = 16
)

// packetOptions are the packet flags by direction. Being loaded, they are stored as one word.
var packetOptions = [2]uint64{
	extension.Ingress: optPacketFlags | 4<<16 | flagInbound<<32,
	extension.Egress:  optPacketFlags | 4<<16 | flagOutbound<<32,
}

// blockSize is the size of such a block with n bytes of data.
func blockSize(n int) int { return (packetHeader + n + 3 + packetTrailer) &^ 3 }

// packetWord is the beginning of a block of a size: its type and the size.
func packetWord(size int) uint64 { return blockPacket | uint64(size)<<32 }

// appendPacket appends a block of a record. comment is an option, or nothing.
func appendPacket(b, block, comment []byte) []byte {
	start, trailer := len(b), len(block)-packetTrailer
	b = append(b, block[:trailer]...)
	b = append(b, comment...)
	b = append(b, block[trailer:]...)
	n := len(b) - start
	le.PutUint64(b[start:], packetWord(n))
	le.PutUint32(b[len(b)-4:], uint32(n))
	return b
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

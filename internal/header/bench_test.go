package header

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// bare is what a hand-written loop would keep of a frame, and the least it would do for it: the limit
// that Parse is measured against.
type bare struct {
	dst, src         uint64
	etherType        uint16
	vlan             uint16
	l3, l4           uint16
	proto            uint8
	srcIP, dstIP     uint32
	srcPort, dstPort uint16
	fragment         bool
}

func (h *bare) parse(b []byte) bool {
	if len(b) < 34 {
		return false
	}
	h.dst = binary.LittleEndian.Uint64(b) & (1<<48 - 1)
	h.src = binary.LittleEndian.Uint64(b[6:]) & (1<<48 - 1)
	h.etherType = binary.BigEndian.Uint16(b[12:])
	h.vlan = 0
	at := 14
	if h.etherType == 0x8100 {
		h.vlan = binary.BigEndian.Uint16(b[14:]) & 0xfff
		h.etherType = binary.BigEndian.Uint16(b[16:])
		at = 18
	}
	if h.etherType != 0x0800 || len(b) < at+20 {
		return true
	}
	ip := b[at:]
	n := int(ip[0]&15) * 4
	if ip[0]>>4 != 4 || n < 20 {
		return false
	}
	h.l3, h.proto = uint16(at), ip[9]
	h.srcIP, h.dstIP = binary.BigEndian.Uint32(ip[12:]), binary.BigEndian.Uint32(ip[16:])
	h.fragment = binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	if (h.proto == TCP || h.proto == UDP) && !h.fragment && len(ip) >= n+4 {
		h.l4 = uint16(at + n)
		p := binary.BigEndian.Uint32(ip[n:])
		h.srcPort, h.dstPort = uint16(p>>16), uint16(p)
	}
	return true
}

var sink uint64

func BenchmarkParse(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	many := func(parts ...part) [][]byte {
		frames := make([][]byte, 256)
		for i := range frames {
			f := build(parts...)
			f.bytes[11] = byte(r.Uint32())
			frames[i] = f.bytes
		}
		return frames
	}
	v4, v6 := etherType(EtherTypeIPv4), etherType(EtherTypeIPv6)
	tcp4 := many(v4, ip4(TCP, 0), tcp(12), payload(1448))
	b.Run("hand-written/tcp4", func(b *testing.B) {
		var h bare
		for i := 0; b.Loop(); i++ {
			if h.parse(tcp4[i&255]) {
				sink += uint64(h.dstPort) + h.dst
			}
		}
	})
	for _, c := range []struct {
		name   string
		frames [][]byte
	}{
		{"tcp4", tcp4},
		{"udp4", many(v4, ip4(UDP, 0), udp(), payload(64))},
		{"udp4 of 46 bytes", many(v4, ip4(UDP, 0), udp(), payload(4))},
		{"tcp4, inner tag", many(tag(0x8100), v4, ip4(TCP, 0), tcp(12), payload(64))},
		{"tcp6", many(v6, ip6(TCP), tcp(12), payload(64))},
		{"tcp6, three extensions", many(v6, ip6(0), ext(43, 1), ext(60, 2), ext(TCP, 1), tcp(12), payload(64))},
		{"arp", many(etherType(EtherTypeARP), arp(), payload(18))},
	} {
		b.Run("Parse/"+c.name, func(b *testing.B) {
			var h Header
			for i := 0; b.Loop(); i++ {
				f := c.frames[i&255]
				h.Parse(f, len(f))
				sink += uint64(h.DstPort)
			}
		})
		b.Run("Parse+Hash/"+c.name, func(b *testing.B) {
			var h Header
			for i := 0; b.Loop(); i++ {
				f := c.frames[i&255]
				h.Parse(f, len(f))
				sink += uint64(h.Hash(f))
			}
		})
	}
}

package guard

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// The guest of the tests, its neighbour, and what is assigned to the guest.
var (
	guestMAC = ports.MAC{2, 0, 0, 0, 0, 2}
	otherMAC = ports.MAC{2, 0, 0, 0, 0, 9}

	guest4, other4, zero4, all4 = ip("10.0.0.2"), ip("10.0.0.9"), ip("0.0.0.0"), ip("255.255.255.255")
	guest6, other6, zero6       = ip("fd00::2"), ip("fd00::9"), ip("::")
	guestLL, otherLL, allNodes  = ip("fe80::ff:fe00:2"), ip("fe80::9"), ip("ff02::1")
	solicitGuest, solicitOther  = ip("ff02::1:ff00:2"), ip("ff02::1:ff00:9")

	assigned = []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::2/128")}
	allOn    = Config{DHCP: true, Router: true, Source: true, Inspect: true, MAC: guestMAC, Addresses: assigned}
)

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func be(words ...int) []byte {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, uint16(w))
	}
	return b
}

// eth builds a frame of the guest to everybody: tags as TPID, TCI, …; then the EtherType.
func eth(tagsAndType []int, payload []byte) []byte {
	return cat(ports.Broadcast[:], guestMAC[:], be(tagsAndType...), payload)
}

func eth4(packet []byte) []byte { return eth([]int{0x0800}, packet) }
func eth6(packet []byte) []byte { return eth([]int{0x86dd}, packet) }

type v4 struct {
	src, dst []byte
	proto    byte
	options  []byte
	offset   int
	more     bool
}

func (h v4) packet(payload []byte) []byte {
	src, dst := h.src, h.dst
	if src == nil {
		src = guest4
	}
	if dst == nil {
		dst = other4
	}
	w := h.offset / 8
	if h.more {
		w |= 0x2000
	}
	n := 20 + len(h.options)
	return cat([]byte{0x40 | byte(n/4), 0}, be(n+len(payload), 7, w), []byte{64, h.proto, 0, 0}, src, dst, h.options, payload)
}

func udp4(src, dst int, payload []byte) []byte {
	return eth4(v4{proto: 17}.packet(udp(src, dst, payload)))
}

type v6 struct {
	src, dst []byte
	next     byte
}

func (h v6) packet(payload ...[]byte) []byte {
	src, dst := h.src, h.dst
	if src == nil {
		src = guestLL
	}
	if dst == nil {
		dst = allNodes
	}
	p := cat(payload...)
	return cat(be(0x6000, 0, len(p)), []byte{h.next, 255}, src, dst, p)
}

func udp6(src, dst int, payload []byte) []byte {
	return eth6(v6{next: 17}.packet(udp(src, dst, payload)))
}

func udp(src, dst int, payload []byte) []byte {
	return cat(be(src, dst, 8+len(payload), 0), payload)
}

func tcp() []byte { return cat(be(1000, 80, 0, 0, 0, 0, 0x5010, 0, 0, 0), make([]byte, 60)) }

// option is a hop-by-hop or destination options header, of n × 8 bytes, in front of next.
func option(next byte, n int) []byte {
	b := make([]byte, 8*n)
	b[0], b[1], b[2], b[3] = next, byte(n-1), 1, byte(8*n-4) // PadN
	return b
}

func frag6(next byte, offset int, more bool) []byte {
	if more {
		offset |= 1
	}
	return cat([]byte{next, 0}, be(offset, 0, 77))
}

func icmp(t byte, body ...[]byte) []byte { return cat([]byte{t, 0, 0, 0}, cat(body...)) }

// lla is an option with a link-layer address.
func lla(kind byte, mac ports.MAC) []byte { return cat([]byte{kind, 1}, mac[:]) }

func advertisement(options ...[]byte) []byte { return icmp(134, make([]byte, 12), cat(options...)) }

func solicit(target []byte, options ...[]byte) []byte {
	return icmp(135, make([]byte, 4), target, cat(options...))
}

func advertise(target []byte, options ...[]byte) []byte {
	return icmp(136, []byte{0x20, 0, 0, 0}, target, cat(options...))
}

func arp(op int, sha ports.MAC, spa, tpa []byte) []byte {
	return eth([]int{0x0806}, arpPacket(1, op, sha, spa, tpa))
}

func arpPacket(hardware, op int, sha ports.MAC, spa, tpa []byte) []byte {
	return cat(be(hardware, 0x0800, 0x0604, op), sha[:], spa, make([]byte, 6), tpa)
}

func llcSNAP(oui byte, pid int, payload []byte) []byte {
	return cat([]byte{0xaa, 0xaa, 3, 0, 0, oui}, be(pid), payload)
}

// frameOf is bytes as a frame: as a backend lends it, whole or with a body.
func frameOf(b []byte, head int) *ports.Frame {
	head = min(head, len(b))
	f := new(ports.Frame)
	f.SetHead(slices.Clone(b[:head]), 0, head)
	f.AppendBody(b[head:])
	return f
}

func compile(t testing.TB, c Config) *Program {
	p, err := Compile(&c)
	require.NoError(t, err)
	return p
}

func parse(f *ports.Frame) *header.Header {
	h := new(header.Header)
	h.Parse(f.Head(), f.Len())
	return h
}

// check judges bytes, however much of them the backend put into the head.
func check(t testing.TB, p *Program, b []byte) Reason {
	f := frameOf(b, len(b))
	r := p.Check(f, parse(f))
	for _, head := range []int{256, 300} {
		f := frameOf(b, head)
		require.Equal(t, r, p.Check(f, parse(f)), "head of %d bytes", head)
	}
	return r
}

func parsed(f *ports.Frame) (h header.Header) {
	h.Parse(f.Head(), f.Len())
	return h
}

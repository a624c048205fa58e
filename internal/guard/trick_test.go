package guard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// Tricks with frames none of which is forbidden by itself. Each deceives some receiver, and none the
// guards.
func TestTricks(t *testing.T) {
	part4 := func(offset int, more bool, b []byte) []byte {
		return eth4(v4{dst: all4, proto: 17, offset: offset, more: more}.packet(b))
	}
	part6 := func(next byte, offset int, more bool, b []byte) []byte {
		return eth6(v6{next: 44}.packet(frag6(next, offset, more), b))
	}
	relayed, harmless := udp(547, 547, cat(dhcpv6(12), big[:32])), udp(1000, 2000, big[:40])
	for name, frames := range map[string][][]byte{
		"op overwritten": {
			part4(0, true, udp(67, 67, request[:16])),
			part4(8, false, reply[:40]),
		},
		"op cut off": {
			part4(0, true, udp(67, 67, request[:7])),
			part4(0, false, udp(1000, 2000, reply[:40])),
			part4(0, true, udp(1000, 2000, reply[:40])),
			part4(48, false, nil),
		},
		"op in the next fragment": {
			part4(0, true, udp(67, 67, nil)),
			part4(8, false, reply[:40]),
		},
		"type overwritten": {
			part6(17, 0, true, relayed[:24]),
			part6(17, 8, false, cat(dhcpv6(13), big[:32])),
		},
		"ports overwritten behind options": {
			part6(60, 0, true, cat(option(17, 1), harmless)),
			part6(60, 8, false, udp(547, 546, big[:40])),
		},
		"type of ICMPv6 overwritten behind options": {
			part6(60, 0, true, cat(option(58, 1), icmp(128, make([]byte, 36)))),
			part6(60, 8, false, advertisement()),
		},
		"ports with another next header": {
			part6(132, 0, true, cat(be(547, 546), big[:36])),
			part6(17, 0, true, harmless),
			part6(17, 40, false, nil),
		},
		"options with another next header": {
			part6(17, 0, true, udp(0x1100, 2000, udp(547, 546, big[:40]))),
			part6(60, 0, true, cat(option(6, 1), tcp())),
			part6(6, 56, false, nil),
		},
		"options with the next header of an atomic fragment": {
			part6(17, 0, true, udp(0x1100, 2000, udp(547, 546, big[:40]))),
			part6(60, 0, false, cat(option(6, 1), tcp())),
			part6(6, 56, false, nil),
		},
		"port in two halves": {
			cat(part6(59, 0, false, be(1000, 0x0200)[:3]), big[:60]),
			part6(17, 0, true, udp(1000, 0x9922, big[:40])),
			part6(17, 48, false, nil),
		},
		"tiny first fragment": {
			part6(17, 0, true, harmless[:8]),
			part6(17, 0, true, relayed[:8]),
			part6(17, 8, false, dhcpv6(13)),
		},
	} {
		var lent [2][]*ports.Frame
		for i := range lent {
			for _, b := range frames {
				lent[i] = append(lent[i], frameOf(b, 256))
			}
		}
		believed, _ := attack(t, nil, policies(), lent[0])
		require.NotEmpty(t, believed, name)
		attack(t, compile(t, allOn), policies(), lent[1])
	}
}

// Tricks with what the sender leaves to be done to a frame.
func TestOffloadTricks(t *testing.T) {
	checksum := func(start, offset int) ports.Offload {
		return ports.Offload{NeedsChecksum: true, ChecksumStart: uint16(start), ChecksumOffset: uint16(offset)}
	}
	dhcp := v4{proto: 17}.packet(udp(67, 68, reply[:40]))
	for name, r := range map[string]struct {
		frame   []byte
		offload ports.Offload
		want    uint16 // of the checksum
	}{
		"op":                {udp4(67, 67, request[:40]), checksum(42, 0), 0x0200},
		"type":              {udp6(547, 547, cat(dhcpv6(12), big[:40])), checksum(62, 0), 0x0d00},
		"port":              {eth6(v6{next: 44}.packet(frag6(47, 0, false), be(547, 0), big[:40])), checksum(62, 2), 546},
		"SNAP":              {eth([]int{100}, cat(be(0x4242, 0x0300, 0, 0x0800), dhcp, big[:8])), checksum(14, 0), 0xaaaa},
		"SNAP in jumbo LLC": {eth([]int{0x8870}, cat(be(0x4242, 0x0300, 0, 0x0800), dhcp, big[:8])), checksum(14, 0), 0xaaaa},
		"organization":      {eth([]int{0x88b7}, cat([]byte{0, 0x42, 0x42}, be(0x0800), dhcp, big[:8])), checksum(15, 0), 0x00f8},
		"op, in every segment": {udp4(67, 67, cat(request[:50], reply[:50])), ports.Offload{
			NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: ports.SegmentUDP, SegmentSize: 50,
		}, 0},
	} {
		var frames [2][]*ports.Frame
		for i := range frames {
			f := offload(r.frame, r.offload)
			if r.offload.Segment == ports.SegmentNone {
				forge(f, r.want)
			}
			frames[i] = []*ports.Frame{f, frameOf(eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(1000, 2000, nil))), 256)}
		}
		believed, _ := attack(t, nil, policies(), frames[0])
		require.NotEmpty(t, believed, name)
		attack(t, compile(t, Config{DHCP: true}), policies(), frames[1])
	}
}

func offload(b []byte, o ports.Offload) *ports.Frame {
	f := frameOf(b, 256)
	f.Offload = o
	return f
}

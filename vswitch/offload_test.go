package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// tcp4 returns a TCP segment over IPv4 with that many bytes of payload. Its checksum is that of the
// pseudo header only, as a guest leaves it that asks for offload.
func tcp4(dst, src ports.MAC, payload int) []byte {
	b := append(dst[:], src[:]...)
	b = append(b, 8, 0)
	b = append(b, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2)
	binary.BigEndian.PutUint16(b[16:], uint16(40+payload))
	binary.BigEndian.PutUint16(b[24:], ^onesSum(0, b[14:34]))
	b = append(b, 0x12, 0x34, 0, 80, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[50:], onesSum(uint32(6+20+payload), b[26:34]))
	return appendPayload(b, payload)
}

// udp4 is tcp4 for a datagram.
func udp4(dst, src ports.MAC, payload int) []byte {
	b := tcp4(dst, src, payload)[:34]
	b[23] = 17
	binary.BigEndian.PutUint16(b[16:], uint16(28+payload))
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], ^onesSum(0, b[14:34]))
	b = append(b, 0x12, 0x34, 0x45, 0x67, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[38:], uint16(8+payload))
	binary.BigEndian.PutUint16(b[40:], onesSum(uint32(17+8+payload), b[26:34]))
	return appendPayload(b, payload)
}

// tcp6 is tcp4 over IPv6.
func tcp6(dst, src ports.MAC, payload int) []byte {
	b := append(dst[:], src[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64)
	binary.BigEndian.PutUint16(b[18:], uint16(20+payload))
	b = append(b, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	b = append(b, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
	b = append(b, 0x12, 0x34, 0, 80, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[70:], onesSum(uint32(6+20+payload), b[22:54]))
	return appendPayload(b, payload)
}

func appendPayload(b []byte, n int) []byte {
	for i := range n {
		b = append(b, byte(i*7+i>>8))
	}
	return b
}

// onesSum is the one's complement sum of RFC 1071, of an even number of bytes.
func onesSum(s uint32, b []byte) uint16 {
	for ; len(b) > 0; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// large is a frame that asks for segmentation.
type large struct {
	name string
	wire func(dst, src ports.MAC, payload int) []byte
	kind ports.Segment
	l4   uint16
	sum  uint16 // offset of the checksum in the transport header
	head int    // bytes of all headers
}

var largeFrames = []large{
	{"TCP over IPv4", tcp4, ports.SegmentTCP4, 34, 16, 54},
	{"TCP over IPv6", tcp6, ports.SegmentTCP6, 54, 16, 74},
	{"UDP over IPv4", udp4, ports.SegmentUDP, 34, 6, 42},
}

func (k large) frame(dst, src ports.MAC, payload, size int) *ports.Frame {
	f := newFrame(k.wire(dst, src, payload))
	f.Offload = ports.Offload{
		NeedsChecksum: true, ChecksumStart: k.l4, ChecksumOffset: k.sum,
		Segment: k.kind, SegmentSize: uint16(size), HeaderLen: uint16(k.head),
	}
	return f
}

// payloads decodes frames, checks lengths and checksums, and returns what they carry.
func payloads(t *testing.T, frames []*ports.Frame) (all []byte) {
	for _, f := range frames {
		wire := make([]byte, f.WireLen())
		f.CopyTo(wire)
		p := gopacket.NewPacket(wire, layers.LayerTypeEthernet, gopacket.Default)
		require.True(t, p.ErrorLayer() == nil, "%x", wire)
		again := gopacket.NewSerializeBuffer()
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok {
			require.NoError(t, tcp.SetNetworkLayerForChecksum(p.NetworkLayer()))
		} else {
			require.NoError(t, p.TransportLayer().(*layers.UDP).SetNetworkLayerForChecksum(p.NetworkLayer()))
		}
		require.NoError(t, gopacket.SerializePacket(again, gopacket.SerializeOptions{ComputeChecksums: true, FixLengths: true}, p))
		require.Equal(t, again.Bytes(), wire, "lengths and checksums")
		all = append(all, p.TransportLayer().LayerPayload()...)
	}
	return all
}

// offloadLab is a switch with a sender and a receiver that take everything and one that takes nothing.
func offloadLab(t *testing.T) (l *lab, from, able, plain *station) {
	l = newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{})
	all := ports.PipeConfig{Offloads: ports.OffloadAll}
	from = l.guestOn(all, "from", vswitch.VNICConfig{Switch: "lab"})
	able = l.guestOn(all, "able", vswitch.VNICConfig{Switch: "lab"})
	return l, from, able, l.guest("plain", vswitch.VNICConfig{Switch: "lab"})
}

func TestALargeFrameCrossesAsOneWhereItIsTaken(t *testing.T) {
	for _, k := range largeFrames {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, from, able, plain := offloadLab(t)
				sent := k.frame(able.mac, from.mac, 60_000, 1400)
				from.sendFrames(sent)
				got := able.received()
				require.Len(t, got, 1)
				require.Equal(t, sent.Head(), got[0].Head())
				require.Equal(t, sent.Offload, got[0].Offload)
				require.EqualValues(t, 1, able.stats().TxFrames)
				require.EqualValues(t, sent.Len(), able.stats().TxBytes)
				l.nobodyGot(plain)
			})
		})
	}
}

func TestALargeFrameIsCutWhereItIsNotTaken(t *testing.T) {
	for _, k := range largeFrames {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, from, able, plain := offloadLab(t)
				from.sendFrames(k.frame(plain.mac, from.mac, 60_000, 1400))
				got := plain.received()
				require.Len(t, got, (60_000+1399)/1400)
				for _, f := range got {
					require.True(t, f.Offload.IsZero())
					require.LessOrEqual(t, f.Len(), 1514)
				}
				require.Equal(t, appendPayload(nil, 60_000), payloads(t, got))
				require.Empty(t, plain.drops())
				require.Empty(t, able.received())
			})
		})
	}
}

func TestALargeFrameThatIsFloodedReachesEachAsItCan(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, from, able, plain := offloadLab(t)
		sums := l.guestOn(ports.PipeConfig{Offloads: ports.OffloadChecksum}, "sums", vswitch.VNICConfig{Switch: "lab"})
		text := frame(ports.Broadcast, from.mac, "before and after")
		from.sendFrames(newFrame(text), largeFrames[0].frame(ports.Broadcast, from.mac, 10_000, 1000), newFrame(text))

		got := able.received()
		require.Len(t, got, 3)
		require.Equal(t, ports.SegmentTCP4, got[1].Offload.Segment)
		got = plain.received()
		require.Len(t, got, 12)
		require.Equal(t, text, got[0].Head())
		require.Equal(t, text, got[11].Head())
		require.Equal(t, appendPayload(nil, 10_000), payloads(t, got[1:11]))
		got = sums.received()
		require.Len(t, got, 12)
		for _, f := range got[1:11] {
			require.True(t, f.Offload.NeedsChecksum)
			require.Equal(t, ports.SegmentNone, f.Offload.Segment)
			require.Equal(t, 1054, f.Len())
		}
	})
}

func TestAChecksumIsCompletedWhereItIsNotTaken(t *testing.T) {
	for _, k := range largeFrames {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, from, able, plain := offloadLab(t)
				for _, to := range []*station{able, plain} {
					f := k.frame(to.mac, from.mac, 501, 0)
					f.Offload.Segment, f.Offload.HeaderLen = ports.SegmentNone, 0
					from.sendFrames(f)
				}
				got := able.received()
				require.Len(t, got, 1)
				require.True(t, got[0].Offload.NeedsChecksum)
				got = plain.received()
				require.Len(t, got, 1)
				require.True(t, got[0].Offload.IsZero())
				require.Equal(t, appendPayload(nil, 501), payloads(t, got))
			})
		})
	}
}

func TestALargeFrameFromTheWireLosesItsPriorityTag(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		wire := l.nicOn(ports.PipeConfig{Offloads: ports.OffloadAll}, "eth0")
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		vm := l.guests(1)[0]
		f := largeFrames[0].frame(vm.mac, wire.mac, 5000, 1000)
		o := f.Offload
		o.ChecksumStart += 4
		o.HeaderLen += 4
		f.SetHead(tagged(bytes.Clone(f.Head()), tpidQ, 5<<13), 0, f.Len()+4)
		f.Offload = o
		wire.sendFrames(f)
		got := vm.received()
		require.Len(t, got, 5)
		require.Equal(t, appendPayload(nil, 5000), payloads(t, got))
	})
}

func TestSegmentsLongerThanTheMTUAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, from, _, plain := offloadLab(t)
		from.sendFrames(largeFrames[0].frame(plain.mac, from.mac, 20_000, 5000))
		require.Empty(t, plain.received())
		require.NotZero(t, plain.drops()[vswitch.DropTooBig])
		require.Zero(t, plain.stats().TxFrames)
	})
}

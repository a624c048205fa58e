package segment

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

func TestHeadersAreParsedAsFarAsAHeadReaches(t *testing.T) {
	require.Equal(t, ports.HeadLen, header.Limit)
}

// hostile is a request on a frame that would be in order without the change.
type hostile struct {
	p      packet
	size   int
	change func(b []byte, o *ports.Offload)
	want   error
}

func TestCheck(t *testing.T) {
	type off = *ports.Offload
	tunnel := packet{[]gopacket.SerializableLayer{
		ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(),
		&layers.VXLAN{ValidIDFlag: true, VNI: 5}, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(0),
	}, payload(100)}
	icmp := packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}}, payload(50)}
	gre := packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolGRE)}, payload(80)}
	arp := packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeARP), &layers.ARP{
		AddrType: 1, Protocol: 0x800, HwAddressSize: 6, ProtAddressSize: 4,
		SourceHwAddress: macA, DstHwAddress: macB, SourceProtAddress: []byte{1, 2, 3, 4}, DstProtAddress: []byte{1, 2, 3, 5},
	}}, payload(18)}
	mpls := packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeMPLSUnicast)}, payload(80)}
	at := func(start, offset int) func([]byte, off) {
		return func(_ []byte, o off) { o.ChecksumStart, o.ChecksumOffset = uint16(start), uint16(offset) }
	}
	none := func([]byte, off) {}
	request := func(o ports.Offload) func([]byte, off) {
		return func(_ []byte, p off) { *p = o }
	}

	for name, c := range map[string]hostile{
		"checksum of TCP over IPv4": {tcp4(10), 0, none, nil},
		"checksum of TCP over IPv6": {tcp6(10), 0, none, nil},
		"checksum of UDP over IPv4": {udp4(10), 0, none, nil},
		"checksum of UDP over IPv6": {udp6(10), 0, none, nil},
		"behind a tag":              {tcp4(10).tagged(), 0, none, nil},
		"segments of TCP over IPv4": {tcp4(9000), 1448, none, nil},
		"segments of TCP over IPv6": {tcp6(9000), 1448, none, nil},
		"segments of UDP over IPv4": {udp4(9000), 1448, none, nil},
		"segments of UDP over IPv6": {udp6(9000), 1448, none, nil},
		"segments behind a tag":     {tcp6(9000).tagged(), 1448, none, nil},
		"one segment":               {tcp4(9), 1448, none, nil},
		"no payload":                {tcp4(0), 1448, none, nil},
		"any header length":         {tcp4(9000), 1448, func(_ []byte, o off) { o.HeaderLen = 65535 }, nil},
		"nothing":                   {tcp4(9), 0, request(ports.Offload{}), nil},
		"checksum is known":         {tcp4(9), 0, request(ports.Offload{ChecksumValid: true}), nil},

		"inner checksum of VXLAN":    {tunnel, 0, at(14+20+8+8+14+20, 16), nil},
		"outer checksum of VXLAN":    {tunnel, 0, at(14+20, 6), nil},
		"checksum of ICMP":           {icmp, 0, at(34, 2), nil},
		"inner checksum of GRE":      {gre, 0, at(34+4+20, 16), nil},
		"checksum of GRE":            {gre, 0, at(34, 4), nil},
		"inner checksum of MPLS":     {mpls, 0, at(14+4+20, 16), nil},
		"up to the end of the frame": {tunnel, 0, at(42, 14+20+8+8+14+20+20+100-42-2), nil},

		"over the MAC addresses":       {tcp4(9), 0, at(0, 6), ErrChecksum},
		"over the source address":      {tcp4(9), 0, at(14, 12), ErrChecksum},
		"over the ports":               {tcp4(9), 0, at(34, 0), ErrChecksum},
		"over the flags":               {tcp4(9), 0, at(34, 12), ErrChecksum},
		"in front of the header":       {tcp4(9), 0, at(33, 17), ErrChecksum},
		"over the header of MPLS":      {mpls, 0, at(12, 0), ErrChecksum},
		"over an ARP packet":           {arp, 0, at(14, 14), ErrChecksum},
		"over the target of ICMP":      {icmp, 0, at(34, 4), ErrChecksum},
		"over the outer UDP header":    {tunnel, 0, at(34, 4), ErrChecksum},
		"behind the end":               {tcp4(9), 0, at(66, 8), ErrChecksum},
		"far behind the end":           {tcp4(9), 0, at(65535, 65535), ErrChecksum},
		"behind the head":              {tcp4(900), 0, at(66, ports.HeadLen-66-1), ErrChecksum},
		"the last bytes of the head":   {tcp4(900), 0, at(66, ports.HeadLen-66-2), nil},
		"of a fragment":                {udp4(100), 0, func(b []byte, _ off) { b[20] = 0x20 }, ErrChecksum},
		"of a malformed frame":         {udp4(100), 0, func(b []byte, _ off) { b[14] = 0x44 }, ErrChecksum},
		"of a packet that has no data": {udp6(100), 0, func(b []byte, _ off) { b[20] = 59 }, ErrChecksum},
		"of SCTP":                      {udp4(100), 0, func(b []byte, _ off) { b[23] = 132 }, ErrChecksum},
		"ECN alone":                    {tcp4(9), 0, request(ports.Offload{ECN: true}), ErrHeaders},

		"size 0":                         {tcp4(9000), 1, func(_ []byte, o off) { o.SegmentSize = 0 }, ErrSize},
		"size 0 without payload":         {tcp4(0), 1, func(_ []byte, o off) { o.SegmentSize = 0 }, ErrSize},
		"size 1":                         {tcp4(60000), 1, none, ErrSize},
		"TCP over IPv4 as IPv6":          {tcp4(9000), 1448, func(_ []byte, o off) { o.Segment = ports.SegmentTCP6 }, ErrHeaders},
		"TCP over IPv6 as IPv4":          {tcp6(9000), 1448, func(_ []byte, o off) { o.Segment = ports.SegmentTCP4 }, ErrHeaders},
		"TCP as UDP":                     {tcp4(9000), 1448, func(_ []byte, o off) { o.Segment = ports.SegmentUDP }, ErrHeaders},
		"UDP as TCP":                     {udp4(9000), 1448, func(_ []byte, o off) { o.Segment = ports.SegmentTCP4 }, ErrHeaders},
		"a kind that is not":             {tcp4(9000), 1448, func(_ []byte, o off) { o.Segment = 77 }, ErrHeaders},
		"UDP with ECN":                   {udp4(9000), 1448, func(_ []byte, o off) { o.ECN = true }, ErrHeaders},
		"segments of ICMP":               {icmp, 0, request(ports.Offload{NeedsChecksum: true, Segment: ports.SegmentTCP4, SegmentSize: 9}), ErrHeaders},
		"segments of ARP":                {arp, 0, request(ports.Offload{NeedsChecksum: true, Segment: ports.SegmentTCP4, SegmentSize: 9}), ErrHeaders},
		"segments of a fragment":         {tcp4(9000), 1448, func(b []byte, _ off) { b[20] = 0x20 }, ErrHeaders},
		"segments of a malformed frame":  {tcp4(9000), 1448, func(b []byte, _ off) { b[46] = 0x40 }, ErrHeaders},
		"segments, checksum not asked":   {tcp4(9000), 1448, func(_ []byte, o off) { o.NeedsChecksum = false }, ErrChecksum},
		"segments, checksum elsewhere":   {tcp4(9000), 1448, func(_ []byte, o off) { o.ChecksumOffset = 14 }, ErrChecksum},
		"segments, checksum of an inner": {tcp4(9000), 1448, func(_ []byte, o off) { o.ChecksumStart = 100 }, ErrChecksum},
	} {
		t.Run(name, func(t *testing.T) {
			var b []byte
			var o ports.Offload
			switch c.p.layers[len(c.p.layers)-1].(type) {
			case *layers.TCP, *layers.UDP:
				b, o = c.p.asking(t, c.size)
			default:
				b, o = c.p.bytes(t), ports.Offload{NeedsChecksum: true}
			}
			c.change(b, &o)
			f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
			err := Check(f)
			require.ErrorIs(t, err, c.want)
			var s Segmenter
			got, splitErr := s.Split(f, 0)
			require.Equal(t, err, splitErr)
			if c.want == nil {
				require.NotEmpty(t, got)
				return
			}
			require.ErrorIs(t, err, ports.ErrOffload)
			require.Empty(t, got)
		})
	}
}

func TestSNAPFramesAreNotCut(t *testing.T) {
	b, o := tcp4(1000).asking(t, 500)
	b = append(append(append([]byte(nil), b[:12]...), 0, 0, 0xaa, 0xaa, 3, 0, 0, 0), b[12:]...)
	binary.BigEndian.PutUint16(b[12:], uint16(len(b)-14))
	o.ChecksumStart += 8
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	require.ErrorIs(t, Check(f), ErrHeaders)
	f.Offload.Segment, f.Offload.ECN = ports.SegmentNone, false
	require.NoError(t, Check(f))
}

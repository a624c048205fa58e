package toeplitz

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
)

// bitwise is the hash as Microsoft defines it: for each bit of the input that is set, the 32 bits of the
// key from that position on.
func bitwise(key Key, input []byte) (sum uint32) {
	window := binary.BigEndian.Uint32(key[:])
	for i, b := range input {
		for bit := 7; bit >= 0; bit-- {
			if b>>bit&1 != 0 {
				sum ^= window
			}
			window <<= 1
			if i+4 < len(key) {
				window |= uint32(key[i+4] >> bit & 1)
			}
		}
	}
	return sum
}

// packet is an Ethernet frame with an IP packet and a transport header of 20 bytes.
func packet(src, dst netip.AddrPort, proto uint8) []byte {
	var ip []byte
	if src.Addr().Is4() {
		ip = make([]byte, 20, 40)
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(ip[2:], 40)
		copy(ip[12:], src.Addr().AsSlice())
		copy(ip[16:], dst.Addr().AsSlice())
	} else {
		ip = make([]byte, 40, 60)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], 20)
		copy(ip[8:], src.Addr().AsSlice())
		copy(ip[24:], dst.Addr().AsSlice())
	}
	l4 := make([]byte, 20)
	binary.BigEndian.PutUint16(l4, src.Port())
	binary.BigEndian.PutUint16(l4[2:], dst.Port())
	switch proto {
	case header.TCP:
		l4[12] = 5 << 4
	case header.UDP:
		l4[5] = 20
	}
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00}
	if src.Addr().Is6() {
		frame[12], frame[13] = 0x86, 0xdd
	}
	return append(append(frame, ip...), l4...)
}

func parse(t testing.TB, frame []byte) *header.Header {
	var h header.Header
	h.Parse(frame, len(frame))
	require.Equal(t, header.OK, h.Reason)
	return &h
}

// The vectors of "Verifying the RSS Hash Calculation".
func TestMicrosoftVectors(t *testing.T) {
	hash := New(DefaultKey)
	for _, c := range []struct {
		dst, src       string
		addresses, all uint32
	}{
		{"161.142.100.80:1766", "66.9.149.187:2794", 0x323e8fc2, 0x51ccc178},
		{"65.69.140.83:4739", "199.92.111.2:14230", 0xd718262a, 0xc626b0ea},
		{"12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0a5de, 0x5c2b394a},
		{"209.142.163.6:2217", "38.27.205.30:48228", 0x82989176, 0xafc7327f},
		{"202.188.127.2:1303", "153.39.163.191:44251", 0x5d1809c5, 0x10e828a2},
		{"[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc18cd5, 0x40207d3d},
		{"[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c461c, 0xdde51bbf},
		{"[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61e985, 0x02d1feef},
	} {
		src, dst := netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst)
		for proto, want := range map[uint8]uint32{
			header.TCP: c.all, header.UDP: c.all, header.SCTP: c.all,
			header.ICMP: c.addresses, 47: c.addresses,
		} {
			frame := packet(src, dst, proto)
			require.Equal(t, want, hash.Of(parse(t, frame), frame), "%v to %v, protocol %d", src, dst, proto)
		}
	}
}

func TestFragmentsHashWithoutPorts(t *testing.T) {
	hash := New(DefaultKey)
	src, dst := netip.MustParseAddrPort("66.9.149.187:2794"), netip.MustParseAddrPort("161.142.100.80:1766")
	for name, word := range map[string]uint16{"first": 1 << 13, "middle": 1<<13 | 100, "last": 100} {
		frame := packet(src, dst, header.TCP)
		binary.BigEndian.PutUint16(frame[14+6:], word)
		require.Equal(t, uint32(0x323e8fc2), hash.Of(parse(t, frame), frame), name)
	}
}

func TestWhatIsNotIPHashesToZero(t *testing.T) {
	hash := New(DefaultKey)
	for _, frame := range [][]byte{
		nil,
		{1, 2, 3},
		append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xcc}, make([]byte, 46)...),
		{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0, 0, 20}, // the IP header is cut off
	} {
		var h header.Header
		h.Parse(frame, len(frame))
		require.Zero(t, hash.Of(&h, frame))
	}
}

func TestTablesEqualTheBitwiseHash(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var key Key
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		hash := New(key)
		for range 50 {
			addr := func() netip.AddrPort {
				var b [16]byte
				binary.BigEndian.PutUint64(b[:], r.Uint64())
				binary.BigEndian.PutUint64(b[8:], r.Uint64())
				return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(r.Uint32()))
			}
			src, dst := addr(), addr()
			if r.IntN(2) == 0 {
				four := func(a netip.AddrPort) netip.AddrPort {
					b := a.Addr().As16()
					return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), a.Port())
				}
				src, dst = four(src), four(dst)
			}
			frame := packet(src, dst, header.UDP)
			input := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
			input = binary.BigEndian.AppendUint16(input, src.Port())
			input = binary.BigEndian.AppendUint16(input, dst.Port())
			require.Equal(t, bitwise(key, input), hash.Of(parse(t, frame), frame), "%v to %v", src, dst)
		}
	}
}

func FuzzOf(f *testing.F) {
	a4, b4 := netip.MustParseAddrPort("66.9.149.187:2794"), netip.MustParseAddrPort("161.142.100.80:1766")
	a6, b6 := netip.MustParseAddrPort("[3ffe:2501::7]:2794"), netip.MustParseAddrPort("[ff02::1]:1766")
	f.Add(DefaultKey[:], packet(a4, b4, header.TCP))
	f.Add(DefaultKey[:], packet(a6, b6, header.UDP))
	f.Add([]byte{1}, packet(a6, b6, 44))
	f.Fuzz(func(t *testing.T, k, frame []byte) {
		var key Key
		copy(key[:], k)
		var h header.Header
		h.Parse(frame, len(frame))
		input := append([]byte(nil), h.AddrBytes(frame)...)
		if len(input) > 0 && h.Flags.Has(header.Ports) && !h.Flags.Has(header.Fragment) {
			input = binary.BigEndian.AppendUint16(input, h.SrcPort)
			input = binary.BigEndian.AppendUint16(input, h.DstPort)
		}
		require.Equal(t, bitwise(key, input), New(key).Of(&h, frame))
	})
}

func Example() {
	frame := packet(netip.MustParseAddrPort("66.9.149.187:2794"), netip.MustParseAddrPort("161.142.100.80:1766"), header.TCP)
	var h header.Header
	h.Parse(frame, len(frame))
	hash := New(DefaultKey).Of(&h, frame)
	fmt.Printf("%#08x is for queue %d of 6\n", hash, Spread(6).Queue(hash))
	// Output: 0x51ccc178 is for queue 0 of 6
}

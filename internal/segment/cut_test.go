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

// expected returns the segments of the packet as gopacket makes them: the oracle.
func (p packet) expected(t *testing.T, size int) [][]byte {
	var all [][]byte
	for done := 0; ; {
		k := min(size, len(p.payload)-done)
		last := done+k == len(p.payload)
		var ls []gopacket.SerializableLayer
		for _, l := range p.layers {
			switch l := l.(type) {
			case *layers.IPv4:
				c := *l
				c.Id += uint16(len(all))
				ls = append(ls, &c)
			case *layers.TCP:
				c := *l
				c.Seq += uint32(done)
				c.CWR = l.CWR && done == 0
				c.FIN, c.PSH = l.FIN && last, l.PSH && last
				ls = append(ls, &c)
			default:
				ls = append(ls, l)
			}
		}
		all = append(all, serialize(t, append(ls, gopacket.Payload(p.payload[done:done+k]))))
		if done += k; last {
			return all
		}
	}
}

func TestSplitMakesWhatGopacketMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Segmenter
	for _, p := range []packet{
		tcp4(65483), tcp4(14480), tcp4(1449), tcp4(1448), tcp4(1), tcp4(0), tcp4(300), tcp4(4097),
		tcp6(65400), tcp6(5001), tcp6(100),
		udp4(60000), udp4(2048), udp4(11),
		udp6(60000), udp6(3), udp6(0),
		tcp4(9000).tagged(), tcp6(9000).tagged(), udp4(9000).tagged(),
	} {
		for _, size := range []int{1448, 1000, 501, 64, 8959, 65535} {
			if len(p.payload) > size*MaxSegments {
				continue
			}
			b, o := p.asking(t, size)
			want := p.expected(t, size)
			for range 2 {
				f := frame(r, b, o)
				f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 0x6005}
				require.NoError(t, Check(f))
				was := flat(f)
				got, err := s.Split(f, 0)
				require.NoError(t, err)
				require.Len(t, got, len(want), "%v by %d", p, size)
				for i, g := range got {
					require.Equal(t, want[i], flat(g), "segment %d of %v by %d", i, p, size)
					require.Equal(t, f.VLAN, g.VLAN)
					require.Equal(t, ports.Offload{}, g.Offload)
					require.GreaterOrEqual(t, len(g.Head()), min(g.Len(), ports.HeadLen))
					require.NotNil(t, g.Prepend(ports.Headroom))
				}
				require.Equal(t, was, flat(f), "the frame itself has changed")
				require.Equal(t, o, f.Offload)

				leaving, err := s.Split(f, ports.OffloadChecksum)
				require.NoError(t, err)
				require.Len(t, leaving, len(want))
				for i, g := range leaving {
					require.Equal(t, ports.OffloadChecksum, g.Offload.Needs())
					require.NoError(t, Check(g))
					require.NoError(t, Finish(g))
					require.Equal(t, want[i], flat(g), "segment %d of %v by %d", i, p, size)
				}
			}
		}
	}
}

func TestPayloadIsSharedNotCopied(t *testing.T) {
	b, o := tcp4(20000).asking(t, 1448)
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	var s Segmenter
	got, err := s.Split(f, 0)
	require.NoError(t, err)
	shared := 0
	for _, g := range got {
		require.Len(t, g.Head(), ports.HeadLen)
		for _, piece := range g.Body() {
			shared += len(piece)
		}
	}
	require.Equal(t, 20000-len(got)*(ports.HeadLen-66), shared)

	first := got[0]
	s.Reset()
	require.Empty(t, first.Body())
}

func TestIPv6ExtensionsAreCarried(t *testing.T) {
	chain := []byte{60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // hop-by-hop, destination
	plain, o := tcp6(5000).asking(t, 1400)
	b := append(append(append([]byte(nil), plain[:54]...), chain...), plain[54:]...)
	b[14+6] = 0
	binary.BigEndian.PutUint16(b[14+4:], uint16(len(b)-54))
	o.ChecksumStart += uint16(len(chain))
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	require.NoError(t, Check(f))
	var s Segmenter
	got, err := s.Split(f, 0)
	require.NoError(t, err)
	for i, want := range tcp6(5000).expected(t, 1400) {
		g := flat(got[i])
		require.Equal(t, chain, g[54:54+len(chain)])
		require.Equal(t, len(g)-54, int(binary.BigEndian.Uint16(g[18:])))
		require.Equal(t, want[54:], g[54+len(chain):], "the checksum does not cover extension headers")
	}
}

func TestIPv4OptionsAreCarried(t *testing.T) {
	p := tcp4(5000)
	ip := p.layers[1].(*layers.IPv4)
	for range 40 {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 1, OptionLength: 1})
	}
	b, o := p.asking(t, 1400)
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	require.NoError(t, Check(f))
	var s Segmenter
	got, err := s.Split(f, 0)
	require.NoError(t, err)
	for i, want := range p.expected(t, 1400) {
		require.Equal(t, want, flat(got[i]))
	}
}

func TestBytesBehindThePacketAreLeftOut(t *testing.T) {
	p := tcp4(3000)
	b, o := p.asking(t, 1448)
	f := frame(rand.New(rand.NewPCG(2, 1)), append(b, "trailer"...), o)
	var s Segmenter
	got, err := s.Split(f, 0)
	require.NoError(t, err)
	for i, want := range p.expected(t, 1448) {
		require.Equal(t, want, flat(got[i]))
	}
}

func TestUDPChecksumIsNeverAbsent(t *testing.T) {
	p := udp4(2000)
	b, o := p.asking(t, 1000)
	l4, _ := p.place(t)
	var s Segmenter
	// Choose the last word of the first segment such that its sum is all ones.
	got, err := s.Split(frame(rand.New(rand.NewPCG(1, 1)), b, o), 0)
	require.NoError(t, err)
	sum := binary.BigEndian.Uint16(got[0].Head()[l4+6:])
	at := l4 + 8 + 998
	word := int(binary.BigEndian.Uint16(b[at:])) + int(sum)
	binary.BigEndian.PutUint16(b[at:], uint16(word>>16+word&0xffff))
	got, err = s.Split(frame(rand.New(rand.NewPCG(1, 1)), b, o), 0)
	require.NoError(t, err)
	require.Equal(t, uint16(0xffff), binary.BigEndian.Uint16(got[0].Head()[l4+6:]))
}

func TestWhatTheDestinationTakesGoesAsItIs(t *testing.T) {
	b, o := tcp4(5000).asking(t, 1448)
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	var s Segmenter
	got, err := s.Split(f, ports.OffloadAll)
	require.NoError(t, err)
	require.Equal(t, []*ports.Frame{f}, got)

	got, err = s.Split(f, ports.OffloadAll&^ports.OffloadECN)
	require.NoError(t, err)
	require.Len(t, got, 4)

	f.Offload = ports.Offload{}
	got, err = s.Split(f, 0)
	require.NoError(t, err)
	require.Equal(t, []*ports.Frame{f}, got)
}

func TestAppendCollectsUntilFull(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	big, askBig := udp4(MaxSegments/2*100).asking(t, 100)
	small, askSmall := tcp4(20).asking(t, 0)
	f, g := frame(r, big, askBig), frame(r, small, askSmall)
	var s Segmenter
	var out []*ports.Frame
	var err error
	out, err = s.Append(out, f, 0)
	require.NoError(t, err)
	out, err = s.Append(out, g, 0)
	require.NoError(t, err)
	require.Len(t, out, MaxSegments/2+1)
	same, err := s.Append(out, f, 0)
	require.ErrorIs(t, err, ErrFull)
	require.Len(t, same, len(out))
	for s.used < MaxSegments {
		out, err = s.Append(out, g, 0)
		require.NoError(t, err)
	}
	_, err = s.Append(out, g, 0)
	require.ErrorIs(t, err, ErrFull)
	first := udp4(MaxSegments/2*100).expected(t, 100)[0]
	require.Equal(t, first, flat(out[0]))

	s.Reset()
	require.Nil(t, out[0].Body())
	out, err = s.Append(out[:0], f, 0)
	require.NoError(t, err)
	require.Equal(t, first, flat(out[0]))
}

func TestTheMostSegmentsFit(t *testing.T) {
	b, o := udp4(64*MaxSegments-64).asking(t, 64)
	f := frame(rand.New(rand.NewPCG(1, 1)), b[:len(b):len(b)], o)
	var s Segmenter
	got, err := s.Split(f, 0)
	require.NoError(t, err)
	require.Len(t, got, MaxSegments-1)

	f.Offload.SegmentSize = 63
	require.ErrorIs(t, Check(f), ErrSize)
	_, err = s.Split(f, 0)
	require.ErrorIs(t, err, ErrSize)
}

func TestSplittingAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	big, askBig := tcp4(65000).asking(t, 1448)
	small, askSmall := udp6(20).asking(t, 0)
	bad := askBig
	bad.SegmentSize = 0
	frames := []*ports.Frame{frame(r, big, askBig), frame(r, small, askSmall), frame(r, big, bad)}
	var s Segmenter
	var h header.Header
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, f := range frames {
			_ = Check(f)
			h.Parse(f.Head(), f.Len())
			_ = CheckParsed(f, &h)
			_, _ = s.Split(f, 0)
			_, _ = s.Split(f, ports.OffloadChecksum)
		}
	}))
}

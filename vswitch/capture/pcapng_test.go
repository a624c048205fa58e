package capture

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// block is a block of a pcapng file, taken apart without regard to how it was made.
type block struct {
	kind    uint32
	body    []byte // in front of the options
	options map[uint16]string
}

// packet is a captured frame.
type packet struct {
	port     string
	stamp    uint64
	length   int
	data     []byte
	outbound bool
	comment  string
}

// recording is what is in a file.
type recording struct {
	ports      []string
	packets    []packet
	statistics map[string]block
}

func readBlocks(t testing.TB, file []byte) (blocks []block) {
	bodyLen := map[uint32]int{blockSection: 16, blockInterface: 8, blockStatistics: 12}
	for len(file) > 0 {
		require.GreaterOrEqual(t, len(file), 12)
		n := int(le.Uint32(file[4:]))
		require.Zero(t, n%4)
		require.GreaterOrEqual(t, len(file), n)
		require.EqualValues(t, n, le.Uint32(file[n-4:]))
		b := block{kind: le.Uint32(file), options: map[uint16]string{}}
		at := file[8 : n-4]
		fixed, ok := bodyLen[b.kind]
		if b.kind == blockPacket {
			fixed, ok = 20+(int(le.Uint32(at[12:]))+3)&^3, true
		}
		require.True(t, ok, "block of type %d", b.kind)
		b.body, at = at[:fixed], at[fixed:]
		for {
			code, n := le.Uint16(at), int(le.Uint16(at[2:]))
			at = at[4:]
			if code == optEnd {
				require.Zero(t, n)
				break
			}
			require.NotContains(t, b.options, code)
			b.options[code] = string(at[:n])
			for _, pad := range at[n : (n+3)&^3] {
				require.Zero(t, pad)
			}
			at = at[(n+3)&^3:]
		}
		require.Empty(t, at)
		blocks = append(blocks, b)
		file = file[n:]
	}
	return blocks
}

// read takes a file apart and checks that an independent reader finds the same packets.
func read(t testing.TB, file []byte) recording {
	t.Helper()
	r := recording{statistics: map[string]block{}}
	blocks := readBlocks(t, file)
	require.EqualValues(t, blockSection, blocks[0].kind)
	for _, b := range blocks[1:] {
		switch b.kind {
		case blockInterface:
			require.Equal(t, "\x09", b.options[optInterfaceResolution])
			r.ports = append(r.ports, b.options[optInterfaceName])
		case blockPacket:
			p := packet{
				port:    r.ports[le.Uint32(b.body)],
				stamp:   uint64(le.Uint32(b.body[4:]))<<32 | uint64(le.Uint32(b.body[8:])),
				length:  int(le.Uint32(b.body[16:])),
				data:    b.body[20 : 20+le.Uint32(b.body[12:])],
				comment: b.options[optComment],
			}
			flags := b.options[optPacketFlags]
			require.Contains(t, []string{"\x01\x00\x00\x00", "\x02\x00\x00\x00"}, flags)
			p.outbound = flags[0] == flagOutbound
			if n := len(r.packets); n > 0 {
				require.GreaterOrEqual(t, p.stamp, r.packets[n-1].stamp, "time does not go back")
			}
			r.packets = append(r.packets, p)
		case blockStatistics:
			r.statistics[r.ports[le.Uint32(b.body)]] = b
		default:
			require.Fail(t, "a second section")
		}
	}
	oracle(t, file, &r)
	return r
}

func oracle(t testing.TB, file []byte, want *recording) {
	t.Helper()
	if len(want.ports) == 0 {
		return // the reader wants one
	}
	ng, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	require.NoError(t, err)
	for _, p := range want.packets {
		data, info, err := ng.ReadPacketData()
		require.NoError(t, err)
		require.True(t, bytes.Equal(p.data, data))
		require.Equal(t, p.length, info.Length)
		require.EqualValues(t, p.stamp, info.Timestamp.UnixNano())
		i, err := ng.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		require.Equal(t, p.port, i.Name)
	}
	_, _, err = ng.ReadPacketData()
	require.True(t, errors.Is(err, io.EOF), "%v", err)
	require.Equal(t, len(want.ports), ng.NInterfaces())
	for id, name := range want.ports {
		i, err := ng.Interface(id)
		require.NoError(t, err)
		if b, ok := want.statistics[name]; ok && b.options[optStatisticsReceived] != "" {
			require.Equal(t, le.Uint64([]byte(b.options[optStatisticsReceived])), i.Statistics.PacketsReceived)
			require.Equal(t, le.Uint64([]byte(b.options[optStatisticsDropped])), i.Statistics.PacketsDropped)
		}
	}
}

// counts are the frames received, accepted, delivered and lost at a port.
func (r *recording) counts(port string) [4]uint64 {
	o := r.statistics[port].options
	var n [4]uint64
	for i, code := range []uint16{optStatisticsReceived, optStatisticsAccepted, optStatisticsDelivered, optStatisticsDropped} {
		n[i] = le.Uint64([]byte(o[code]))
	}
	return n
}

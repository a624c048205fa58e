package vhostuser

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/ports"
)

// tcpSegment returns an IPv4 TCP frame with n bytes of payload that asks to be cut into pieces of 1000.
func tcpSegment(n int) *ports.Frame {
	b := ether(54+n, 7)
	b[12], b[13] = 0x08, 0
	ip := b[14:]
	copy(ip, []byte{0x45, 0, byte((40 + n) >> 8), byte(40 + n), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	sum := checksum.Of(ip[:20])
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	copy(ip[20:], []byte{4, 0, 4, 1, 0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0})
	var s checksum.Sum
	s.AddPseudo(ip[12:20], 6, uint32(20+n))
	ip[36], ip[37] = byte(s.Fold()>>8), byte(s.Fold())
	f := frame(b)
	f.Offload = ports.Offload{
		NeedsChecksum: true, Segment: ports.SegmentTCP4, SegmentSize: 1000,
		HeaderLen: 54, ChecksumStart: 34, ChecksumOffset: 16,
	}
	return f
}

// A guest that negotiated less than the port offers gets what it can take.
func TestGuestWithoutOffloads(t *testing.T) {
	for _, c := range []struct {
		name    string
		f       uint64
		frames  int
		request bool // the guest is left to complete the checksum
	}{
		{"nothing", 0, 4, false},
		{"checksum", featGuestCSum, 4, true},
		{"segmentation of another kind", featGuestCSum | featGuestTSO6, 4, true},
		{"all", featGuestCSum | featGuestTSO4, 1, true},
		{"segmentation without checksum", featGuestTSO4, 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, g := plug(t, nil, vmConfig{features: featVersion1 | featMergeable | featProtocol | c.f})
			require.Equal(t, ports.OffloadAll, p.Info().Offloads)
			n, err := p.Tx(0).Send([]*ports.Frame{tcpSegment(3500), frame(ether(60, 0))})
			require.NoError(t, err)
			require.Equal(t, 2, n)
			payload := 0
			for range c.frames {
				k, ok := g.Take(patience)
				require.True(t, ok)
				assert.Equal(t, c.request, k.Offload.NeedsChecksum)
				assert.Equal(t, c.frames == 1, k.Offload.Segment == ports.SegmentTCP4)
				ip := k.Bytes[14:]
				var s checksum.Sum
				s.AddPseudo(ip[12:20], 6, uint32(len(ip)-20))
				if c.request {
					assert.Equal(t, []byte{byte(s.Fold() >> 8), byte(s.Fold())}, ip[36:38])
				} else {
					s.Add(ip[20:])
					assert.Zero(t, s.Checksum())
				}
				payload += len(ip) - 40
			}
			assert.Equal(t, 3500, payload)
			k, ok := g.Take(patience)
			require.True(t, ok)
			assert.Equal(t, ether(60, 0), k.Bytes)
		})
	}
}

// When the ring has no room for all pieces of a frame, none is sent.
func TestPiecesAreSentTogether(t *testing.T) {
	for _, f := range []uint64{0, featPacked} {
		p, g := plug(t, nil, vmConfig{features: featVersion1 | featMergeable | featProtocol | f, size: 8})
		fill := []*ports.Frame{frame(ether(60, 0)), frame(ether(60, 0)), frame(ether(60, 0)), frame(ether(60, 0)), frame(ether(60, 0))}
		n, err := p.Tx(0).Send(append(fill, tcpSegment(3500)))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		for range 5 {
			_, ok := g.takeFrom(0)
			require.True(t, ok)
		}
		_, ok := g.takeFrom(0)
		require.False(t, ok)
		n, err = p.Tx(0).Send([]*ports.Frame{tcpSegment(3500)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for range 4 {
			_, ok := g.takeFrom(0)
			require.True(t, ok)
		}
		passes(t, p, g, 0)
	}
}

// What a guest says of its checksums is not believed.
func TestGuestMayNotVouch(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	at := g.slots[0][1].at
	clear(g.mem[at:][:12])
	g.mem[at] = 2 // VIRTIO_NET_HDR_F_DATA_VALID
	copy(g.mem[at+12:], ether(60, 0))
	require.True(t, g.tx[0].add([]buffer{{at, 72}}, false, false, 0))
	b := ports.NewBatch(1)
	eventually(t, "no frame", func() bool {
		require.NoError(t, p.Rx(0).Recv(b))
		return b.Len() == 1
	})
	assert.Zero(t, b.Frames()[0].Offload)
	p.Rx(0).Release()
}

package sflow

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// FuzzCapture samples any bytes: nothing breaks, every datagram can be read, and the header is that of the
// frame.
func FuzzCapture(f *testing.F) {
	for _, x := range []*ports.Frame{udp(f, 1, 22), udp(f, 1, 1400), raw(nil), raw(make([]byte, 13)), raw(make([]byte, 14))} {
		b := make([]byte, x.WireLen())
		x.CopyTo(b)
		f.Add(b, uint16(0), false, 128)
		f.Add(b, uint16(0xa02a), true, 256)
	}
	f.Fuzz(func(t *testing.T, b []byte, tci uint16, tag bool, headerLen int) {
		x := raw(b[:min(len(b), ports.MaxFrame)])
		if tag && len(b) >= 14 { // no frame of a switch is shorter
			tagged(tci, x)
		}
		headerLen = minHeaderLen + int(uint(headerLen)%(maxHeaderLen-minHeaderLen+1))
		a, c, stop := start(t, Config{Rate: 1, HeaderLen: headerLen, Egress: true})
		s := a.plug(t, "vm", 3)
		s.send(x, x)
		s.receive(nil, x)
		stop()

		got := c.flows()
		require.Equal(t, 3, len(got))
		wire := make([]byte, x.WireLen())
		x.CopyTo(wire)
		for i := range got {
			r := rawHeaderOf(got[i])
			require.EqualValues(t, len(wire)+4, r.FrameLength)
			require.EqualValues(t, min(len(wire), headerLen), r.HeaderLength)
			if r.Header != nil {
				require.Equal(t, wire[:r.HeaderLength], r.Header.Data()[:r.HeaderLength])
			}
		}
	})
}

package ipfix

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// FuzzCapture meters any bytes: nothing breaks, every message can be read and every packet is in one record.
func FuzzCapture(f *testing.F) {
	for _, x := range []*ports.Frame{
		udp4(f, 1, 2), tcp4(f, 3, nil),
		frame(f, ip6(layers.IPProtocolTCP), &layers.TCP{}),
		frame(f, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{}),
		frame(f, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{}, gopacket.Payload("0123")),
		raw(make([]byte, 13)), raw(nil),
	} {
		f.Add(x.Head(), uint16(0), 0)
		f.Add(x.Head(), uint16(7), 1000)
	}
	f.Fuzz(func(t *testing.T, b []byte, tci uint16, body int) {
		x := tagged(tci, raw(b[:min(len(b), ports.MaxFrame)]))
		if body > 0 {
			x.AppendBody(make([]byte, min(body, ports.MaxFrame)))
		}
		e, c, stop := start(t, Config{MaxFlows: 1})
		s := e.plug(t, "vm", 3)
		s.send(x, udp4(t, 1, 2), x)
		stop()
		got := c.take()
		require.Equal(t, 3, packets(got))
		for _, r := range got {
			require.EqualValues(t, 4, r.number(ingressInterface))
		}
	})
}

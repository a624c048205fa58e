package extension_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

var here, there = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

// udp is a datagram from a port of here to one of there.
func udp(sport, dport uint16) *ports.Frame { return datagram(here, there, sport, dport) }

func datagram(src, dst netip.Addr, sport, dport uint16) *ports.Frame {
	f := textFrame(string(make([]byte, 20+8)))
	h := f.Head()
	h[12] = 8 // IPv4
	h[14], h[22], h[23] = 0x45, 64, 17
	binary.BigEndian.PutUint16(h[16:], 28)
	copy(h[26:], src.AsSlice())
	copy(h[30:], dst.AsSlice())
	binary.BigEndian.PutUint16(h[34:], sport)
	binary.BigEndian.PutUint16(h[36:], dport)
	binary.BigEndian.PutUint16(h[38:], 8)
	return f
}

func reply(sport, dport uint16) *ports.Frame { return datagram(there, here, dport, sport) }

func tagged(f *ports.Frame, tci uint16) *ports.Frame {
	f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: tci}
	return f
}

// guard is a stage with a firewall that writes what it is asked and denies what goes to or from port 23.
func guard(t testing.TB) (*stage, *extension.Port) {
	s := newStage(t)
	s.use(binding{Name: "wall", Extension: &firewall{func(c *extension.Connection) bool {
		s.diary.add("%s %s %d VLAN %d %s→%s", c.Port.Name, c.Opener, c.Protocol, c.VLAN, c.Local, c.Remote)
		return c.Remote.Port() != 23 && c.Local.Port() != 23
	}}})
	return s, s.connect("p", 0)
}

func TestAFirewallIsAskedOnceForBothDirections(t *testing.T) {
	s, p := guard(t)
	for range 3 {
		b := s.show(extension.Ingress, p, udp(5, 80), udp(5, 23), udp(5, 80))
		require.True(t, b.Alive(0) && b.Alive(2))
		require.Equal(t, "wall: connection denied", b.Reason(1))
		b = s.show(extension.Egress, p, reply(5, 80), reply(5, 23))
		require.True(t, b.Alive(0))
		require.False(t, b.Alive(1))
	}
	require.Equal(t, []string{"p ingress 17 VLAN 0 10.0.0.1:5→10.0.0.2:80", "p ingress 17 VLAN 0 10.0.0.1:5→10.0.0.2:23"}, s.diary.take())
	require.EqualValues(t, 6, s.stack.Status()[0].Dropped)

	s.show(extension.Egress, p, reply(6, 80))
	s.show(extension.Ingress, p, udp(6, 80))
	require.Equal(t, []string{"p egress 17 VLAN 0 10.0.0.1:6→10.0.0.2:80"}, s.diary.take(), "the port is local whoever opens")

	q := s.connect("q", 1)
	s.show(extension.Egress, q, udp(5, 80))
	require.Equal(t, []string{"q egress 17 VLAN 0 10.0.0.2:80→10.0.0.1:5"}, s.diary.take(), "each port has its own")
}

func TestFlowsOfVLANsAreNotOne(t *testing.T) {
	s, p := guard(t)
	s.show(extension.Ingress, p, udp(5, 80), tagged(udp(5, 80), 7), tagged(udp(5, 80), 8), tagged(udp(5, 80), 5<<13|7), tagged(udp(5, 80), 5<<13))
	require.Equal(t, []string{
		"p ingress 17 VLAN 0 10.0.0.1:5→10.0.0.2:80", "p ingress 17 VLAN 7 10.0.0.1:5→10.0.0.2:80", "p ingress 17 VLAN 8 10.0.0.1:5→10.0.0.2:80",
	}, s.diary.take())
}

func TestWhatAFirewallIsNotAsked(t *testing.T) {
	s, p := guard(t)
	arp := textFrame(string(make([]byte, 28)))
	copy(arp.Head()[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	short := textFrame("")
	short.Head()[12] = 8
	wrong := udp(1, 80)
	wrong.Head()[14] = 0x65
	cut := udp(1, 80)
	binary.BigEndian.PutUint16(cut.Head()[16:], 1000)
	b := s.show(extension.Ingress, p, textFrame("no IP"), arp, short, wrong, cut)
	require.True(t, b.Alive(0))
	require.True(t, b.Alive(1))
	for i := 2; i < 5; i++ {
		require.Equal(t, "wall: malformed packet", b.Reason(i))
	}
	require.Empty(t, s.diary.take())
	for i := range 5 {
		_, ok := b.Flow(i)
		require.False(t, ok)
	}
	f, ok := extension.NewBatch(extension.Ingress, p, p, nil, udp(7, 8)).Flow(0)
	require.True(t, ok)
	require.Equal(t, extension.Flow{Protocol: 17, Source: netip.AddrPortFrom(here, 7), Destination: netip.AddrPortFrom(there, 8)}, f)
}

func TestAFirewallIsAskedAgainAfterReauthorize(t *testing.T) {
	s, p := guard(t)
	q := s.connect("q", 1)
	all := func() int {
		s.show(extension.Ingress, p, udp(5, 80), udp(5, 23))
		s.show(extension.Egress, q, udp(5, 80))
		return len(s.diary.take())
	}
	require.Equal(t, 3, all())
	require.Equal(t, 0, all())
	s.stack.Reauthorize()
	require.Equal(t, 3, all())
	require.Equal(t, 0, all())
}

func TestAnAnswerIsForgottenSomeMinutesAfterTheLastPacket(t *testing.T) {
	s, p := guard(t)
	asked := func(after time.Duration) int {
		s.now += after
		s.show(extension.Ingress, p, udp(5, 80))
		return len(s.diary.take())
	}
	require.Equal(t, 1, asked(time.Hour))
	for range 20 {
		require.Equal(t, 0, asked(time.Minute), "it is in use")
	}
	require.Equal(t, 0, asked(2*time.Minute))
	require.Equal(t, 1, asked(5*time.Minute), "nothing came meanwhile")
	for range 8 { // others come meanwhile
		s.now += time.Minute
		s.show(extension.Ingress, p, udp(6, 80))
	}
	s.diary.take()
	require.Equal(t, 1, asked(0))
}

func TestWhatIsRememberedOfConnectionsIsBounded(t *testing.T) {
	s := newStage(t)
	asked := 0
	s.use(binding{Name: "wall", Extension: &firewall{func(*extension.Connection) bool { asked++; return true }}})
	p := s.connect("p", 0)
	s.show(extension.Ingress, p, udp(1, 0))
	for i := range 40_000 {
		s.show(extension.Ingress, p, udp(2, uint16(i)))
		if i%1000 == 0 {
			s.show(extension.Ingress, p, udp(1, 0))
		}
	}
	require.Equal(t, 40_001, asked, "what is in use is not forgotten under pressure")
	asked = 0
	for i := range 40_000 {
		s.show(extension.Ingress, p, udp(2, uint16(39_999-i)))
	}
	require.GreaterOrEqual(t, asked, 40_000-16384, "no more than the limit was known")
	require.Less(t, asked, 40_000-4096, "the latest were known")
}

func TestTheCommonCasesAllocateNothing(t *testing.T) {
	for name, list := range commonCases {
		for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
			t.Run(name+", "+d.String(), func(t *testing.T) {
				require.Zero(t, testing.AllocsPerRun(100, commonRound(t, list(), d)))
			})
		}
	}
}

var commonCases = map[string]func() []binding{
	"filter": func() []binding {
		return []binding{{Name: "f", Extension: &filter{func(b *batch) {
			for i := range b.Len() {
				if b.Alive(i) && len(b.Frame(i).Head()) < 10 {
					b.Drop(i, "short")
				}
			}
		}}}}
	},
	"filter that edits": func() []binding {
		return []binding{{Name: "f", Extension: &filter{func(b *batch) {
			for i := range b.Len() {
				b.Edit(i).Head()[13] = 0
			}
		}}}}
	},
	"capture": func() []binding { return []binding{{Name: "c", Extension: &capture{idle}}} },
	"capture with fates": func() []binding {
		return []binding{{Name: "c", Extension: &historian{idle, idle}}}
	},
	"firewall": func() []binding {
		return []binding{{Name: "w", Extension: &firewall{func(*extension.Connection) bool { return true }}}}
	},
	"forwarding": func() []binding {
		to := &extension.Port{Index: 7, Name: "to"}
		return []binding{{Name: "w", Extension: &forwarding{func(b *batch) {
			for i := range b.Len() {
				b.Send(i, to)
			}
		}}}}
	},
}

const commonBatch = 32

// commonRound returns what has a batch of known flows pass a list.
func commonRound(t testing.TB, list []binding, d extension.Direction) func() {
	s := newStage(t)
	s.use(list...)
	p := s.connect("p", 0)
	var frames, of []*ports.Frame
	for i := range uint16(commonBatch) {
		frames = append(frames, udp(i, 80))
	}
	g, b := s.stack.Program(p), new(batch)
	at := func(int) *extension.Port { return p }
	round := func() {
		of = append(of[:0], frames...)
		g.Begin(b, d, p, 0, of, 1<<commonBatch-1)
		if d == extension.Ingress {
			g.Ingress(b)
			g.Forward(b)
			g.Resolve(b, at)
			for range g.Targets(b) {
			}
		} else {
			g.Egress(b)
		}
		if g.WantsFates() {
			g.Fate(b)
		}
	}
	round()
	return round
}

func BenchmarkProgram(b *testing.B) {
	for _, name := range []string{"filter", "filter that edits", "capture", "capture with fates", "firewall", "forwarding"} {
		for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
			b.Run(fmt.Sprintf("%s, %s", name, d), func(b *testing.B) {
				round := commonRound(b, commonCases[name](), d)
				b.ReportAllocs()
				for b.Loop() {
					round()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*commonBatch), "ns/frame")
			})
		}
	}
}

package coalesce

import (
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

var kinds = []struct {
	name  string
	v6    bool
	state sum
}{
	{"IPv4, checksum left to us", false, partial}, {"IPv4, checked by the device", false, whole}, {"IPv4, not checked", false, unknown},
	{"IPv6, checksum left to us", true, partial}, {"IPv6, checked by the device", true, whole}, {"IPv6, not checked", true, unknown},
}

func TestSegmentsOfAFlowAreJoined(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := newStream(443)
			s.v6, s.state = k.v6, k.state
			var frames []*ports.Frame
			for range 40 {
				frames = append(frames, s.next(1448).frame(t))
			}
			last := s.next(500)
			last.tcp.PSH = true
			frames = append(frames, last.frame(t))
			want, total := onWire(frames), 0
			for _, f := range frames {
				total += f.Len()
			}
			headers := frames[0].Len() - 1448

			var c Coalescer
			got := join(&c, frames)
			require.Len(t, got, 1)
			f := got[0]
			require.Equal(t, total-40*headers, f.Len())
			require.Equal(t, uint16(1448), f.Offload.SegmentSize)
			require.Equal(t, uint16(headers), f.Offload.HeaderLen)
			require.Equal(t, map[bool]ports.Segment{false: ports.SegmentTCP4, true: ports.SegmentTCP6}[k.v6], f.Offload.Segment)
			require.False(t, f.Offload.ECN)
			require.NoError(t, segment.Check(f))
			require.Equal(t, want, onWire(got))
			require.Equal(t, &frames[1].Head()[headers], &f.Body()[0][0], "payload was copied")
		})
	}
}

// A second segment that differs in one thing.
func TestWhatIsNotJoined(t *testing.T) {
	field := func(at int, v byte) func(p *packet) {
		return func(p *packet) { p.edit = func(f *ports.Frame) { f.Head()[at] ^= v } }
	}
	for name, change := range map[string]func(p *packet){
		"destination MAC":       func(p *packet) { p.eth.DstMAC = append(p.eth.DstMAC[:5:5], 9) },
		"source MAC":            func(p *packet) { p.eth.SrcMAC = append(p.eth.SrcMAC[:5:5], 9) },
		"VLAN":                  func(p *packet) { p.tag = ports.Tag{TPID: ports.TPID8021Q, TCI: 7} },
		"source address":        func(p *packet) { p.ip4.SrcIP[3]++; p.ip6.SrcIP[15]++ },
		"destination address":   func(p *packet) { p.ip4.DstIP[3]--; p.ip6.DstIP[15]++ },
		"source port":           func(p *packet) { p.tcp.SrcPort++ },
		"destination port":      func(p *packet) { p.tcp.DstPort++ },
		"TOS":                   func(p *packet) { p.ip4.TOS, p.ip6.TrafficClass = 0x20, 0x20 },
		"congestion":            func(p *packet) { p.ip4.TOS, p.ip6.TrafficClass = 3, 3 },
		"TTL":                   func(p *packet) { p.ip4.TTL, p.ip6.HopLimit = 63, 63 },
		"ID or flow label":      func(p *packet) { p.ip4.Id++; p.ip6.FlowLabel++ },
		"the same ID":           func(p *packet) { p.ip4.Id--; p.ip6.FlowLabel-- },
		"DF":                    func(p *packet) { p.ip4.Flags, p.ip6.FlowLabel = 0, 0 },
		"fragment":              func(p *packet) { p.ip4.Flags, p.ip6.FlowLabel = layers.IPv4MoreFragments, 0 },
		"sequence number":       func(p *packet) { p.tcp.Seq++ },
		"sequence number again": func(p *packet) { p.tcp.Seq -= 1448 },
		"acknowledgement":       func(p *packet) { p.tcp.Ack++ },
		"window":                func(p *packet) { p.tcp.Window++ },
		"urgent pointer":        func(p *packet) { p.tcp.Urgent = 1 },
		"time stamp":            func(p *packet) { p.tcp.Options[2].OptionData = []byte{0, 0, 0, 8, 0, 0, 0, 9} },
		"fewer options":         func(p *packet) { p.tcp.Options = nil },
		"SYN":                   func(p *packet) { p.tcp.SYN = true },
		"RST":                   func(p *packet) { p.tcp.RST = true },
		"URG":                   func(p *packet) { p.tcp.URG = true },
		"ECE":                   func(p *packet) { p.tcp.ECE = true },
		"CWR":                   func(p *packet) { p.tcp.CWR = true },
		"NS":                    func(p *packet) { p.tcp.NS = true },
		"no ACK":                func(p *packet) { p.tcp.ACK = false },
		"longer":                func(p *packet) { p.payload = append(p.payload, 1) },
		"no payload":            func(p *packet) { p.payload = nil },
		"padding": func(p *packet) {
			p.edit = func(f *ports.Frame) {
				b := append(append(make([]byte, ports.Headroom), f.Head()...), 0, 0)
				o, v := f.Offload, f.VLAN
				f.SetHead(b, ports.Headroom, len(b)-ports.Headroom)
				f.Offload, f.VLAN = o, v
			}
		},
		"a body": func(p *packet) {
			p.edit = func(f *ports.Frame) {
				o := f.Offload
				b := append(make([]byte, ports.Headroom), f.Head()...)
				f.SetHead(b, ports.Headroom, len(b)-ports.Headroom-700)
				f.AppendBody(b[len(b)-700:])
				f.Offload = o
			}
		},
		"IPv4 checksum": func(p *packet) {
			if p.v6 {
				field(14+4, 1)(p) // length
				return
			}
			field(14+10, 1)(p)
		},
		"TCP checksum": func(p *packet) {
			at := 14 + 20 + 16
			if p.v6 {
				at += 20
			}
			if p.state == whole {
				p.edit = func(f *ports.Frame) { f.Head()[at], f.Head()[at+1] = 0, 0 }
				return
			}
			field(at, 1)(p)
		},
		"kind of checksum": func(p *packet) {
			if p.state == partial {
				p.state = whole
				return
			}
			p.state = partial
		},
		"segmentation": func(p *packet) {
			p.edit = func(f *ports.Frame) { f.Offload.Segment, f.Offload.SegmentSize = ports.SegmentTCP4, 1448 }
		},
		"CWR asked for": func(p *packet) { p.edit = func(f *ports.Frame) { f.Offload.ECN = true } },
		"checksum elsewhere": func(p *packet) {
			if p.state != partial {
				p.tcp.Ack++
				return
			}
			p.edit = func(f *ports.Frame) { f.Offload.ChecksumOffset = 14 }
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range kinds {
				s := newStream(443)
				s.v6, s.state = k.v6, k.state
				first, second, third := s.next(1448), s.next(1448), s.next(1448)
				change(second)
				frames := []*ports.Frame{first.frame(t), second.frame(t), third.frame(t)}
				want := onWire(frames)
				var c Coalescer
				require.False(t, c.Join(frames[0]))
				require.False(t, c.Join(frames[1]), k.name)
				c.Finish()
				requireSame(t, want, onWire(frames))

				// It ends its flow, or is of another.
				got := join(&c, []*ports.Frame{first.frame(t), second.frame(t), third.frame(t)})
				requireSame(t, want, onWire(got))
			}
		})
	}
}

func TestWhatEndsAFrame(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(i int, p *packet)
		length int
		want   []int // segments of each frame
	}{
		{"PSH", func(i int, p *packet) { p.tcp.PSH = i == 2 }, 6, []int{3, 3}},
		{"FIN", func(i int, p *packet) { p.tcp.FIN = i == 2 }, 3, []int{3}},
		{"PSH in the first", func(i int, p *packet) { p.tcp.PSH = i == 0 }, 3, []int{1, 2}},
		{"CWR", func(i int, p *packet) { p.tcp.CWR = i == 2 }, 6, []int{2, 4}},
		{"CWR in the first", func(i int, p *packet) { p.tcp.CWR = i == 0 }, 3, []int{3}},
		{"CE from the third on", func(i int, p *packet) { p.ip4.TOS = byte(2 + i/2) }, 4, []int{2, 2}},
		{"no more room", func(int, *packet) {}, 100, []int{45, 45, 10}},
		{"a pure ACK", func(i int, p *packet) {
			if i == 2 {
				p.payload = nil
				p.tcp.Ack++
			}
		}, 3, []int{2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStream(443)
			var frames []*ports.Frame
			for i := range c.length {
				p := s.next(1448)
				c.change(i, p)
				frames = append(frames, p.frame(t))
			}
			want := onWire(frames)
			var co Coalescer
			got := join(&co, frames)
			var counts []int
			for _, f := range got {
				counts = append(counts, 1+len(f.Body()))
				require.NoError(t, segment.Check(f))
				require.LessOrEqual(t, f.Len(), ports.MaxFrame)
			}
			require.Equal(t, c.want, counts)
			require.Equal(t, want, onWire(got))
		})
	}
}

func TestCWRIsAskedFor(t *testing.T) {
	s := newStream(443)
	a, b := s.next(1000), s.next(1000)
	a.tcp.CWR = true
	var c Coalescer
	got := join(&c, []*ports.Frame{a.frame(t), b.frame(t)})
	require.Len(t, got, 1)
	require.True(t, got[0].Offload.ECN)
	require.Equal(t, ports.OffloadChecksum|ports.OffloadTCP4|ports.OffloadECN, got[0].Offload.Needs())
}

// Every frame longer than HeadLen has so much in its head.
func TestShortFramesTakeNothingIn(t *testing.T) {
	s := newStream(443)
	var c Coalescer
	require.Len(t, join(&c, []*ports.Frame{s.next(100).frame(t), s.next(100).frame(t)}), 2)
	require.Len(t, join(&c, []*ports.Frame{s.next(ports.HeadLen - 66).frame(t), s.next(100).frame(t)}), 1)
	require.Len(t, join(&c, []*ports.Frame{s.next(ports.HeadLen - 67).frame(t), s.next(100).frame(t)}), 2)
}

func TestFlowsAreJoinedSideBySide(t *testing.T) {
	for flows, want := range map[int]int{1: 1, 3: 3, maxFlows: maxFlows, maxFlows + 1: 10 * (maxFlows + 1)} {
		var all []*stream
		for i := range flows {
			all = append(all, newStream(uint16(1000+i)))
		}
		var frames []*ports.Frame
		for range 10 {
			for _, s := range all {
				frames = append(frames, s.next(1000).frame(t))
			}
		}
		before := onWire(frames)
		var c Coalescer
		got := join(&c, frames)
		require.Len(t, got, want, "%d flows", flows)
		requireSame(t, before, onWire(got))
	}
}

// What lies between two segments and concerns them keeps them apart.
func TestOtherFramesBetween(t *testing.T) {
	udp := func(p *packet) {
		p.edit = func(f *ports.Frame) { f.Head()[14+9] = 17 } // malformed: the length is none of UDP
	}
	for name, c := range map[string]struct {
		change func(p *packet)
		want   int
	}{
		"fragment":     {func(p *packet) { p.ip4.Flags = layers.IPv4MoreFragments }, 3},
		"malformed":    {udp, 3},
		"another flow": {func(p *packet) { p.tcp.SrcPort++ }, 2},
		"ARP":          {func(p *packet) { p.eth.EthernetType = 0x88b5 }, 2},
	} {
		s, other := newStream(443), newStream(443)
		between := other.next(1000)
		c.change(between)
		frames := []*ports.Frame{s.next(1000).frame(t), between.frame(t), s.next(1000).frame(t)}
		before := onWire(frames)
		var co Coalescer
		got := join(&co, frames)
		require.Len(t, got, c.want, name)
		requireSame(t, before, onWire(got))
	}
}

func TestPassEndsTheFlow(t *testing.T) {
	s := newStream(443)
	a, b, d := s.next(1000).frame(t), s.next(1000).frame(t), s.next(1000).frame(t)
	var c Coalescer
	require.False(t, c.Join(a))
	c.Pass(b)
	require.False(t, c.Join(d))
	require.Zero(t, a.Offload.Segment)
	c.Finish()
	require.False(t, c.Join(s.next(1000).frame(t)), "Finish ends all flows")
}

// Random streams with random faults come back as they were, in their order.
func TestCutUndoesJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var c Coalescer
	joined, all := 0, 0
	for range 60 {
		var streams []*stream
		for i := range 1 + r.IntN(12) {
			s := newStream(uint16(2000 + i))
			s.v6, s.state, s.id = r.IntN(2) == 0, sum(r.IntN(4)), uint16(r.Uint32())
			if s.state == wrong {
				s.state = partial
			}
			streams = append(streams, s)
		}
		sizes := []int{1448, 1448, 1448, 1448, 1460, 500, 190, 1, 0}
		var frames []*ports.Frame
		for range 120 {
			s := streams[r.IntN(len(streams))]
			for range 1 + r.IntN(8) {
				p := s.next(sizes[0])
				if r.IntN(10) == 0 {
					fault(r, s, p, sizes)
				}
				frames = append(frames, p.frame(t))
			}
		}
		before := onWire(frames)
		got := join(&c, frames)
		for _, f := range got {
			if f.Offload.Segment != ports.SegmentNone {
				require.NoError(t, segment.Check(f))
			}
			require.GreaterOrEqual(t, len(f.Head()), min(f.Len(), ports.HeadLen))
		}
		joined += len(frames) - len(got)
		all += len(frames)
		requireSame(t, before, onWire(got))
	}
	require.Greater(t, joined, all/4, "hardly anything is joined")
}

// fault makes a segment other than its stream would have it.
func fault(r *rand.Rand, s *stream, p *packet, sizes []int) {
	switch r.IntN(14) {
	case 0:
		p.tcp.PSH = true
	case 1:
		p.tcp.FIN = true
	case 2:
		p.tcp.CWR = true
	case 3:
		p.tcp.Window++
	case 4:
		p.tcp.Seq += uint32(r.IntN(3000))
	case 5:
		p.ip4.Id = uint16(r.Uint32())
	case 6:
		p.ip4.TOS, p.ip6.TrafficClass = 3, 3
	case 7:
		p.state = []sum{unknown, whole, partial}[r.IntN(3)]
	case 8:
		p.tag = ports.Tag{TPID: ports.TPID8021Q, TCI: 5}
	case 9:
		p.ip4.Flags |= layers.IPv4MoreFragments
	case 10:
		at, v := r.IntN(66), byte(1<<r.IntN(8))
		p.edit = func(f *ports.Frame) { f.Head()[at] ^= v }
		if p.state == whole {
			p.state = unknown // a device that has checked it would not say so
		}
	default:
		n := sizes[r.IntN(len(sizes))]
		s.seq -= uint32(len(p.payload) - min(n, len(p.payload)))
		p.payload = p.payload[:min(n, len(p.payload))]
	}
}

func TestNothingIsAllocated(t *testing.T) {
	s := newStream(443)
	var frames []*ports.Frame
	var before, bufs [][]byte
	for range 40 {
		f := s.next(1448).frame(t)
		frames = append(frames, f)
		before = append(before, f.Head())
		bufs = append(bufs, make([]byte, ports.Headroom+f.Len()))
	}
	o := frames[0].Offload
	var c Coalescer
	require.Zero(t, testing.AllocsPerRun(50, func() {
		joined := 0
		for i, f := range frames {
			copy(bufs[i][ports.Headroom:], before[i])
			f.SetHead(bufs[i], ports.Headroom, len(before[i]))
			f.Offload = o
			if c.Join(f) {
				joined++
			}
		}
		c.Finish()
		if joined != len(frames)-1 {
			panic("not all are joined")
		}
	}))
}

package vswitch_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// spreadLab has a sender and a receiver that has several queues and RSS.
func spreadLab(t *testing.T, queues int, cfg vswitch.RSSConfig) (from, to *station) {
	l := newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{})
	from = l.guest("vm0", vswitch.VNICConfig{Switch: "lab"})
	to = l.guestOn(ports.PipeConfig{Queues: queues}, "vm1", vswitch.VNICConfig{Switch: "lab", RSS: &cfg})
	return from, to
}

// queuesOf waits until nothing moves and returns what has arrived, queue by queue, and on which.
func (s *station) queuesOf() (bytes [][]byte, queue []int) {
	s.lab.settle()
	b := ports.NewBatch(64)
	for q := range s.end.Info().RxQueues {
		for {
			b.Reset()
			_ = s.end.Rx(q).Recv(b)
			for _, f := range b.Frames() {
				bytes, queue = append(bytes, slices.Clone(f.Head())), append(queue, q)
			}
			s.end.Rx(q).Release()
			if b.Len() == 0 {
				break
			}
		}
	}
	return bytes, queue
}

// ipPacket is a packet between addresses, with ports if the protocol has them.
func ipPacket(from, to *station, src, dst netip.AddrPort, proto layers.IPProtocol) []byte {
	var transport gopacket.SerializableLayer
	switch proto {
	case layers.IPProtocolTCP:
		transport = &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port())}
	case layers.IPProtocolUDP:
		transport = &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	default:
		transport = gopacket.Payload("0123456789abcdef")
	}
	if src.Addr().Is4() {
		ip := ipv4(from, to, proto)
		ip.SrcIP, ip.DstIP = src.Addr().AsSlice(), dst.Addr().AsSlice()
		return packetOf(ethernet(from, to, layers.EthernetTypeIPv4), ip, transport)
	}
	ip := ipv6(from, to, proto)
	ip.SrcIP, ip.DstIP = src.Addr().AsSlice(), dst.Addr().AsSlice()
	return packetOf(ethernet(from, to, layers.EthernetTypeIPv6), ip, transport)
}

// Hashes of Microsoft's "Verifying the RSS Hash Calculation".
var rssVectors = []struct {
	dst, src       string
	addresses, all uint32
}{
	{"161.142.100.80:1766", "66.9.149.187:2794", 0x323e8fc2, 0x51ccc178},
	{"65.69.140.83:4739", "199.92.111.2:14230", 0xd718262a, 0xc626b0ea},
	{"12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0a5de, 0x5c2b394a},
	{"209.142.163.6:2217", "38.27.205.30:48228", 0x82989176, 0xafc7327f},
	{"[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc18cd5, 0x40207d3d},
}

func TestAFlowGoesToTheQueueOfItsHash(t *testing.T) {
	const queues = 7
	reversed := make([]int, 32)
	for i := range reversed {
		reversed[i] = (31 - i) % queues
	}
	for name, c := range map[string]struct {
		cfg    vswitch.RSSConfig
		of     func(hash uint32) int
		kinds  [2][3]bool // by version: what is hashed with its ports of TCP and UDP, and with its addresses
		tagged bool
	}{
		"defaults":       {of: func(h uint32) int { return int(h%128) % queues }, kinds: [2][3]bool{{true, true, true}, {true, true, true}}},
		"table":          {cfg: vswitch.RSSConfig{Table: reversed}, of: func(h uint32) int { return reversed[h%32] }, kinds: [2][3]bool{{true, true, true}, {true, true, true}}},
		"addresses only": {cfg: vswitch.RSSConfig{Hash: vswitch.RSSIPv4 | vswitch.RSSIPv6}, of: func(h uint32) int { return int(h%128) % queues }, kinds: [2][3]bool{{false, false, true}, {false, false, true}}},
		"TCP only":       {cfg: vswitch.RSSConfig{Hash: vswitch.RSSTCP4 | vswitch.RSSTCP6}, of: func(h uint32) int { return int(h%128) % queues }, kinds: [2][3]bool{{true, false, false}, {true, false, false}}},
		"UDP4":           {cfg: vswitch.RSSConfig{Hash: vswitch.RSSUDP4 | vswitch.RSSIPv4}, of: func(h uint32) int { return int(h%128) % queues }, kinds: [2][3]bool{{false, true, true}, {}}},
		"tagged":         {of: func(h uint32) int { return int(h%128) % queues }, kinds: [2][3]bool{{true, true, true}, {true, true, true}}, tagged: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				from, to := spreadLab(t, queues, c.cfg)
				if c.tagged {
					trunk := func(c *vswitch.VNICConfig) { c.VLAN = vlan.Trunk(1, vlan.AllIDs(), nil) }
					from.reconfigure(trunk)
					to.reconfigure(trunk)
				}
				seen := map[int]bool{}
				for _, v := range rssVectors {
					src, dst := netip.MustParseAddrPort(v.src), netip.MustParseAddrPort(v.dst)
					kinds := c.kinds[0]
					if src.Addr().Is6() {
						kinds = c.kinds[1]
					}
					for proto, ports := range map[layers.IPProtocol]bool{
						layers.IPProtocolTCP: kinds[0], layers.IPProtocolUDP: kinds[1],
						layers.IPProtocolSCTP: false, layers.IPProtocolGRE: false,
					} {
						want := 0
						switch {
						case ports:
							want = c.of(v.all)
						case kinds[2]:
							want = c.of(v.addresses)
						}
						wire := ipPacket(from, to, src, dst, proto)
						if c.tagged {
							wire = tagged(wire, tpidQ, 77)
						}
						from.sendRaw(wire)
						_, got := to.queuesOf()
						require.Equal(t, []int{want}, got, "%s from %s, protocol %s", v.dst, v.src, proto)
						seen[want] = true
					}
				}
				require.Greater(t, len(seen), 1)
			})
		})
	}
}

func TestFragmentsStayTogetherAndWhatIsNotIPIsOnQueue0(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		from, to := spreadLab(t, 7, vswitch.RSSConfig{})
		v := rssVectors[0]
		wire := ipPacket(from, to, netip.MustParseAddrPort(v.src), netip.MustParseAddrPort(v.dst), layers.IPProtocolUDP)
		for _, word := range []uint16{1 << 13, 1<<13 | 3, 3} {
			f := slices.Clone(wire)
			binary.BigEndian.PutUint16(f[20:], word)
			from.sendRaw(f)
		}
		_, got := to.queuesOf()
		want := int(v.addresses%128) % 7
		require.NotZero(t, want)
		require.Equal(t, []int{want, want, want}, got)
		from.send(to.mac, "not IP")
		from.sendRaw(wire[:30])
		_, got = to.queuesOf()
		require.Equal(t, []int{0, 0}, got)
	})
}

// Hundreds of flows in mixed batches, while tables and keys are changed: nothing is lost, and while they are not changed
// nothing is overtaken.
func TestFlowsStayInOrderWhenTheyAreSpread(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const queues, flows, rounds = 4, 300, 40
		from, to := spreadLab(t, queues, vswitch.RSSConfig{})
		for turn := range 3 {
			last := map[uint16]uint32{}
			at := map[uint16]int{}
			used := map[int]int{}
			arrived := 0
			for n := range rounds {
				for start := 0; start < flows; start += 60 {
					var batch []*ports.Frame
					for flow := start; flow < min(start+60, flows); flow++ {
						b := datagram(from, to, uint16(flow+1), 53)
						binary.BigEndian.PutUint32(b[42:], uint32(n+1))
						batch = append(batch, newFrame(b))
					}
					from.sendFrames(batch...)
					from.lab.settle()
				}
				frames, queue := to.queuesOf()
				for i, f := range frames {
					flow, number := binary.BigEndian.Uint16(f[34:]), binary.BigEndian.Uint32(f[42:])
					require.Equal(t, last[flow]+1, number, "flow %d", flow)
					last[flow] = number
					if was, ok := at[flow]; ok {
						require.Equal(t, was, queue[i])
					}
					at[flow] = queue[i]
					used[queue[i]]++
					arrived++
				}
			}
			require.Equal(t, flows*rounds, arrived)
			require.Len(t, used, queues)
			stats := to.vnic.Queues()
			require.Len(t, stats, queues)
			var sum uint64
			for _, q := range stats {
				sum += q.Frames
			}
			require.EqualValues(t, flows*rounds*(turn+1), sum)
			require.Equal(t, to.stats().TxFrames, sum)
			key := make([]byte, 40)
			for i := range key {
				key[i] = byte(i*i + turn*31 + 1)
			}
			to.reconfigure(func(c *vswitch.VNICConfig) { c.RSS.Key, c.RSS.Table = key, []int{3, 2, 1, 0} })
		}
		to.reconfigure(func(c *vswitch.VNICConfig) { c.RSS = nil })
		from.sendRaw(datagram(from, to, 1, 2), datagram(from, to, 3, 4), datagram(from, to, 5, 6))
		_, queue := to.queuesOf()
		require.Equal(t, []int{queue[0], queue[0], queue[0]}, queue)
	})
}

func TestABadRSSIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, to := spreadLab(t, 4, vswitch.RSSConfig{})
		require.Equal(t, 128, len(to.vnic.Config().RSS.Table))
		require.Equal(t, []int{0, 1, 2, 3, 0}, to.vnic.Config().RSS.Table[:5])
		require.Equal(t, vswitch.RSSAll, to.vnic.Config().RSS.Hash)
		require.Equal(t, []byte{0x6d, 0x5a}, to.vnic.Config().RSS.Key[:2])
		before := to.vnic.Config()
		for want, rss := range map[string]vswitch.RSSConfig{
			"key has 39 bytes, not 40":                                         {Key: make([]byte, 39)},
			"table has 0 entries, not a power of two from 1 to 128":            {Table: []int{}},
			"table has 3 entries, not a power of two from 1 to 128":            {Table: make([]int, 3)},
			"table has 256 entries, not a power of two from 1 to 128":          {Table: make([]int, 256)},
			"table entry 1 is queue 4, but the backend has 4 transmit queues":  {Table: []int{0, 4}},
			"table entry 0 is queue -1, but the backend has 4 transmit queues": {Table: []int{-1, 0}},
			"hash 0xc0 is none of 0x3f":                                        {Hash: 0xc0},
		} {
			c := to.vnic.Config()
			c.RSS = &rss
			err := to.vnic.SetConfig(c)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
			require.EqualError(t, err, `vNIC "vm1": RSS: `+want+": "+vswitch.ErrInvalid.Error())
			require.Equal(t, before, to.vnic.Config())
		}
		mine := to.vnic.Config()
		mine.RSS.Table[0] = 99 // is a copy
		require.Equal(t, before, to.vnic.Config())
	})
}

// takeFromAll is takeInto for a station of several queues.
func (s *station) takeFromAll(b *ports.Batch, n int) {
	deadline := time.Now().Add(patience)
	for n > 0 {
		for q := range s.end.Info().RxQueues {
			b.Reset()
			if s.end.Rx(q).Recv(b) != nil || time.Now().After(deadline) {
				panic("frames are lost")
			}
			n -= b.Len()
			s.end.Rx(q).Release()
		}
		runtime.Gosched()
	}
}

func TestALossInASpreadBatchIsThatOfItsFrame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := new(historian)
		l := extendedLab(t, bind("h", h))
		from := l.guest("vm0", vswitch.VNICConfig{Switch: "lab"})
		to := l.guestOn(ports.PipeConfig{Queues: 2, Depth: 4}, "vm1",
			vswitch.VNICConfig{Switch: "lab", RSS: &vswitch.RSSConfig{Table: []int{1}}})
		from.send(to.mac, "1", "2", "3") // not IP, so they go to queue 0
		h.take(l)
		hashed := datagram(from, to, 1, 2)
		from.sendRaw(hashed, frame(to.mac, from.mac, "4"), hashed, frame(to.mac, from.mac, "5"), hashed, hashed, hashed)
		fates := slices.DeleteFunc(h.take(l), func(line string) bool {
			return strings.HasSuffix(line, "seen") || strings.HasPrefix(line, "vm0")
		})
		require.Equal(t, []string{
			"vm1 egress large: passed", "vm1 egress 4: passed", "vm1 egress large: passed", "vm1 egress 5: queue full",
			"vm1 egress large: passed", "vm1 egress large: passed", "vm1 egress large: queue full",
		}, fates)
		_, queues := to.queuesOf()
		require.Equal(t, []int{0, 0, 0, 0, 1, 1, 1, 1}, queues)
		require.Equal(t, drops{vswitch.DropQueueFull: 2}, to.drops())
	})
}

func TestNothingIsAllocatedWhenFramesAreSpread(t *testing.T) {
	for _, distinct := range []int{1, 64} {
		t.Run(fmt.Sprintf("%d flows", distinct), func(t *testing.T) {
			from, to := spreadLab(t, 4, vswitch.RSSConfig{})
			var frames []*ports.Frame
			for i := range 64 {
				frames = append(frames, newFrame(datagram(from, to, uint16(i%distinct+1), 53)))
			}
			b := ports.NewBatch(64)
			want := uint64(0)
			round := func() {
				if n, err := from.end.Tx(0).Send(frames); n != len(frames) {
					panic(err)
				}
				to.takeFromAll(b, 64)
				want += 64
			}
			for range 300 {
				round()
			}
			require.Zero(t, testing.AllocsPerRun(100, round))
			require.Equal(t, want, to.vnic.Stats().TxFrames)
			used := 0
			for _, q := range to.vnic.Queues() {
				if q.Frames > 0 {
					used++
				}
			}
			require.Equal(t, min(distinct, 4), used)
		})
	}
}

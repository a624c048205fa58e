package ipfix

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// network is a switch.
type network struct{ extension.Switch }

func (network) Name() string { return "lan" }

// collector is an IPFIX collecting process: it reads messages by the templates in them.
type collector struct {
	t testing.TB

	mu        sync.Mutex
	messages  [][]byte
	templates map[uint16][]element
	scope     map[uint16]int
	records   []fields // of flows
	names     map[uint32]string
	sequence  uint32
	described int // templates of IPv4 that came
}

// fields are the values of a record by information element.
type fields map[uint16][]byte

func (f fields) number(e element) uint64 {
	var b [8]byte
	copy(b[8-len(f[e.id]):], f[e.id])
	return binary.BigEndian.Uint64(b[:])
}

func (f fields) addr(e element) string {
	a, _ := netip.AddrFromSlice(f[e.id])
	return a.String()
}

func newCollector(t testing.TB) *collector {
	return &collector{t: t, templates: map[uint16][]element{}, scope: map[uint16]int{}, names: map[uint32]string{}}
}

// Write reads a message, which has to be sound to the last byte.
func (c *collector) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages = append(c.messages, slices.Clone(b))
	require.LessOrEqual(c.t, len(b), 1400)
	word := binary.BigEndian.Uint16
	require.EqualValues(c.t, 10, word(b))
	require.EqualValues(c.t, len(b), word(b[2:]))
	require.Equal(c.t, c.sequence, binary.BigEndian.Uint32(b[8:]))
	for sets := b[16:]; len(sets) > 0; {
		id, n := word(sets), int(word(sets[2:]))
		require.Greater(c.t, n, 4, "a set has records")
		set := sets[4:n]
		sets = sets[n:]
		for len(set) > 0 {
			switch id {
			case 2, 3:
				set = c.template(set, id == 3)
			default:
				set = c.record(set, id)
			}
		}
	}
	return len(b), nil
}

func (c *collector) template(b []byte, options bool) []byte {
	word := binary.BigEndian.Uint16
	id, n := word(b), int(word(b[2:]))
	b = b[4:]
	if options {
		require.EqualValues(c.t, 1, word(b))
		b = b[2:]
	}
	c.templates[id] = nil
	for range n {
		c.templates[id] = append(c.templates[id], element{word(b), word(b[2:])})
		b = b[4:]
	}
	if id == ipv4Template {
		c.described++
	}
	return b
}

func (c *collector) record(b []byte, id uint16) []byte {
	r := fields{}
	require.Contains(c.t, c.templates, id, "a record comes after its template")
	for _, e := range c.templates[id] {
		n := int(e.length)
		if n == variable {
			n = int(b[0])
			b = b[1:]
		}
		r[e.id] = slices.Clone(b[:n])
		b = b[n:]
	}
	c.sequence++
	if id == namesTemplate {
		c.names[uint32(r.number(ingressInterface))] = string(r[interfaceName.id])
	} else {
		c.records = append(c.records, r)
	}
	return b
}

// take returns the records that have come since the last call.
func (c *collector) take() []fields {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.records
	c.records = nil
	return r
}

// packets returns how many packets records report.
func packets(records []fields) (n int) {
	for _, r := range records {
		n += int(r.number(packetDeltaCount))
	}
	return n
}

// station is a port of an exporter.
type station struct {
	e     *Exporter
	port  *extension.Port
	state any
}

func newExporter(t testing.TB, cfg Config, w ...io.Writer) *Exporter {
	t.Helper()
	cfg.Collectors = w
	e, err := New(&cfg)
	require.NoError(t, err)
	return e
}

// start returns an exporter that exports to the collector, and is stopped by stop.
func start(t testing.TB, cfg Config) (e *Exporter, c *collector, stop func()) {
	t.Helper()
	c = newCollector(t)
	e = newExporter(t, cfg, c)
	require.NoError(t, e.Start(network{}))
	return e, c, func() { e.Stop(network{}) }
}

func (e *Exporter) plug(t testing.TB, name string, index int) *station {
	t.Helper()
	p := &extension.Port{Switch: "lan", Name: name, Index: index}
	state, err := e.Connect(p)
	require.NoError(t, err)
	return &station{e, p, state}
}

func (s *station) unplug() { s.e.Disconnect(s.port, s.state) }

// send brings frames into the switch.
func (s *station) send(frames ...*ports.Frame) {
	for part := range slices.Chunk(frames, extension.MaxBatch) {
		s.e.Capture(extension.NewBatch(extension.Ingress, s.port, s.port, s.state, part...))
	}
}

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
)

// frame makes a frame of layers, the first of them behind Ethernet.
func frame(t testing.TB, ls ...gopacket.SerializableLayer) *ports.Frame {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: macA, DstMAC: macB}
	switch ip := ls[0].(type) {
	case *layers.IPv4:
		eth.EthernetType = layers.EthernetTypeIPv4
		ip.Version, ip.TTL = 4, 64
	case *layers.IPv6:
		eth.EthernetType = layers.EthernetTypeIPv6
		ip.Version, ip.HopLimit = 6, 64
	case *layers.ARP:
		eth.EthernetType = layers.EthernetTypeARP
	}
	for _, l := range ls {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			require.NoError(t, l.SetNetworkLayerForChecksum(ls[0].(gopacket.NetworkLayer)))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{eth}, ls...)
	require.NoError(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return raw(buf.Bytes())
}

func raw(b []byte) *ports.Frame {
	f := new(ports.Frame)
	f.SetHead(slices.Clone(b), 0, len(b))
	return f
}

func tagged(vid uint16, f *ports.Frame) *ports.Frame {
	f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: vid}
	return f
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Protocol: proto, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
}

func ip6(proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{NextHeader: proto, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
}

// udp4 is a datagram of 64 bytes as a frame.
func udp4(t testing.TB, src, dst int) *ports.Frame {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	return frame(t, ip4(layers.IPProtocolUDP), u, gopacket.Payload(make([]byte, 22)))
}

func tcp4(t testing.TB, src int, flags func(*layers.TCP)) *ports.Frame {
	seg := &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: 80, ACK: true, Window: 1000}
	if flags != nil {
		flags(seg)
	}
	return frame(t, ip4(layers.IPProtocolTCP), seg)
}

package sflow

import (
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

// collector reads datagrams.
type collector struct {
	t testing.TB

	mu        sync.Mutex
	raw       [][]byte
	datagrams []layers.SFlowDatagram
}

// Write reads a datagram, which has to be sound.
func (c *collector) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = slices.Clone(b)
	c.raw = append(c.raw, b)
	require.LessOrEqual(c.t, len(b), 1400)
	p := gopacket.NewPacket(b, layers.LayerTypeSFlow, gopacket.NoCopy)
	require.Nil(c.t, p.ErrorLayer())
	d := p.Layer(layers.LayerTypeSFlow).(*layers.SFlowDatagram)
	require.EqualValues(c.t, len(c.raw), d.SequenceNumber)
	require.EqualValues(c.t, d.SampleCount, len(d.FlowSamples)+len(d.CounterSamples))
	c.datagrams = append(c.datagrams, *d)
	return len(b), nil
}

func (c *collector) flows() (samples []layers.SFlowFlowSample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.datagrams {
		samples = append(samples, d.FlowSamples...)
	}
	return samples
}

func (c *collector) counters() (samples []layers.SFlowCounterSample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.datagrams {
		samples = append(samples, d.CounterSamples...)
	}
	return samples
}

// rawHeaderOf returns the raw packet header record of a sample.
func rawHeaderOf(s layers.SFlowFlowSample) layers.SFlowRawPacketFlowRecord {
	return s.Records[0].(layers.SFlowRawPacketFlowRecord)
}

var agentAddr = netip.MustParseAddr("192.0.2.1")

func newAgent(t testing.TB, cfg Config, w ...io.Writer) *Agent {
	t.Helper()
	cfg.Collectors = w
	if !cfg.Agent.IsValid() {
		cfg.Agent = agentAddr
	}
	a, err := New(&cfg)
	require.NoError(t, err)
	return a
}

// start returns an agent that sends to the collector, and is stopped by stop.
func start(t testing.TB, cfg Config) (a *Agent, c *collector, stop func()) {
	t.Helper()
	c = &collector{t: t}
	a = newAgent(t, cfg, c)
	require.NoError(t, a.Start(network{}))
	return a, c, func() { a.Stop(network{}) }
}

// station is a port of an agent.
type station struct {
	a     *Agent
	port  *extension.Port
	state any
}

func (a *Agent) plug(t testing.TB, name string, index int) *station {
	t.Helper()
	p := &extension.Port{Switch: "lan", Name: name, Index: index}
	state, err := a.Connect(p)
	require.NoError(t, err)
	return &station{a, p, state}
}

func (s *station) unplug() { s.a.Disconnect(s.port, s.state) }

// send brings frames into the switch.
func (s *station) send(frames ...*ports.Frame) {
	for part := range slices.Chunk(frames, extension.MaxBatch) {
		s.a.Capture(extension.NewBatch(extension.Ingress, s.port, s.port, s.state, part...))
	}
}

// receive lets frames from another port, or injected ones, leave.
func (s *station) receive(from *extension.Port, frames ...*ports.Frame) {
	s.a.Capture(extension.NewBatch(extension.Egress, s.port, from, s.state, frames...))
}

// udp is a datagram of payload bytes as a frame.
func udp(t testing.TB, src, payload int) *ports.Frame {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xa}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xb}, EthernetType: 0x800}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: 9}
	require.NoError(t, u.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(buf, opts, eth, ip, u, gopacket.Payload(make([]byte, payload))))
	return raw(buf.Bytes())
}

// raw makes a frame of bytes, with as little in its head as there may be.
func raw(b []byte) *ports.Frame {
	f := new(ports.Frame)
	b = slices.Clone(b)
	n := min(len(b), ports.HeadLen)
	f.SetHead(b[:n:n], 0, n)
	if n < len(b) {
		f.AppendBody(b[n:])
	}
	return f
}

func tagged(tci uint16, f *ports.Frame) *ports.Frame {
	f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: tci}
	return f
}

// repeat returns n times the same frame.
func repeat(f *ports.Frame, n int) []*ports.Frame { return slices.Repeat([]*ports.Frame{f}, n) }

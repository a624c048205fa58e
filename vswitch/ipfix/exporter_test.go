package ipfix

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func TestRecords(t *testing.T) {
	icmp4 := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}
	icmp6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	later := ip4(layers.IPProtocolUDP)
	later.FragOffset = 100
	lies := udp4(t, 1000, 53)
	lies.Head()[16] = 0xff // IP total length
	padded := raw(append(tcp4(t, 1000, nil).Head(), make([]byte, 6)...))
	for _, c := range []struct {
		name  string
		frame *ports.Frame
		want  map[element]any // string for addresses, int for numbers
	}{
		{"TCP", tcp4(t, 1000, nil), map[element]any{
			sourceIPv4Address: "10.0.0.1", destinationIPv4Address: "10.0.0.2", protocolIdentifier: 6,
			sourceTransportPort: 1000, destinationTransportPort: 80, tcpControlBits: 0x10, octetDeltaCount: 40,
			icmpTypeCodeIPv4: 0, vlanID: 0, ingressInterface: 8, packetDeltaCount: 1,
			sourceMacAddress: uint64(0x02000000000a), destinationMacAddress: uint64(0x02000000000b),
		}},
		{"padding of Ethernet", padded, map[element]any{octetDeltaCount: 40}},
		{"UDP over IPv6", frame(t, ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 6}, gopacket.Payload("hello")), map[element]any{
			sourceIPv6Address: "2001:db8::1", destinationIPv6Address: "2001:db8::2", protocolIdentifier: 17,
			sourceTransportPort: 5, destinationTransportPort: 6, tcpControlBits: 0, octetDeltaCount: 53,
		}},
		{"VLAN", tagged(42, udp4(t, 1, 2)), map[element]any{vlanID: 42, octetDeltaCount: 50}},
		{"ICMP", frame(t, ip4(layers.IPProtocolICMPv4), icmp4), map[element]any{
			icmpTypeCodeIPv4: 0x304, sourceTransportPort: 0, destinationTransportPort: 0, protocolIdentifier: 1,
		}},
		{"ICMPv6", frame(t, ip6(layers.IPProtocolICMPv6), icmp6, gopacket.Payload(make([]byte, 4))), map[element]any{
			icmpTypeCodeIPv6: 0x8000, protocolIdentifier: 58,
		}},
		{"later fragment", frame(t, later, gopacket.Payload(make([]byte, 64))), map[element]any{
			sourceTransportPort: 0, destinationTransportPort: 0, protocolIdentifier: 17, octetDeltaCount: 84,
		}},
		{"false length", lies, map[element]any{
			sourceIPv4Address: "10.0.0.1", sourceTransportPort: 0, octetDeltaCount: 50,
		}},
		{"ARP", frame(t, &layers.ARP{AddrType: 1, Protocol: 0x800, Operation: 1, SourceHwAddress: macA,
			SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: macB, DstProtAddress: []byte{10, 0, 0, 2}}),
			map[element]any{ethernetType: 0x806, layer2OctetDeltaCount: 60, sourceMacAddress: uint64(0x02000000000a)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, col, stop := start(t, Config{})
			e.plug(t, "vm", 7).send(c.frame)
			stop()
			got := col.take()
			require.Len(t, got, 1)
			for e, want := range c.want {
				require.Contains(t, got[0], e.id)
				if s, ok := want.(string); ok {
					require.Equal(t, s, got[0].addr(e))
				} else {
					require.EqualValues(t, want, got[0].number(e), "information element %d", e.id)
				}
			}
		})
	}
}

func TestPacketsOfOneFlowAreOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{})
		defer stop()
		a, b := e.plug(t, "a", 0), e.plug(t, "b", 1)
		begin := time.Now()
		for range 3 {
			a.send(udp4(t, 1, 2), udp4(t, 3, 4), udp4(t, 1, 2))
			b.send(udp4(t, 1, 2), tagged(5, udp4(t, 1, 2)))
			time.Sleep(time.Second)
		}
		require.Equal(t, 4, e.Stats().Flows)
		time.Sleep(time.Minute)
		require.Zero(t, e.Stats().Flows)

		got := c.take()
		require.Len(t, got, 4)
		require.Equal(t, 15, packets(got))
		for _, r := range got {
			require.EqualValues(t, 50*r.number(packetDeltaCount), r.number(octetDeltaCount))
			require.EqualValues(t, begin.UnixMilli(), r.number(flowStartMilliseconds))
			require.EqualValues(t, begin.UnixMilli()+2000, r.number(flowEndMilliseconds))
			require.EqualValues(t, idleTimeout, r.number(flowEndReason))
		}
		require.Equal(t, Stats{Records: 4, Messages: e.Stats().Messages}, e.Stats())
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{ActiveTimeout: 30 * time.Second, IdleTimeout: 5 * time.Second})
		defer stop()
		s := e.plug(t, "vm", 0)

		for range 100 { // one a second: active
			s.send(udp4(t, 1, 2))
			time.Sleep(time.Second)
		}
		got := c.take()
		require.Len(t, got, 3)
		for _, r := range got {
			require.EqualValues(t, activeTimeout, r.number(flowEndReason))
			require.InDelta(t, 30, r.number(packetDeltaCount), 2)
		}
		time.Sleep(6 * time.Second)
		rest := c.take()
		require.Len(t, rest, 1)
		require.EqualValues(t, idleTimeout, rest[0].number(flowEndReason))
		require.Equal(t, 100, packets(got)+packets(rest))

		s.send(tcp4(t, 1, nil), tcp4(t, 1, func(l *layers.TCP) { l.FIN = true }), tcp4(t, 2, func(l *layers.TCP) { l.RST = true }))
		time.Sleep(2500 * time.Millisecond)
		got = c.take()
		require.Len(t, got, 2)
		for _, r := range got {
			require.EqualValues(t, endDetected, r.number(flowEndReason))
		}
	})
}

func TestStopReportsEverything(t *testing.T) {
	e, c, stop := start(t, Config{})
	s, left := e.plug(t, "a", 0), e.plug(t, "b", 1)
	s.send(udp4(t, 1, 2))
	left.send(udp4(t, 1, 2))
	left.unplug()
	stop()
	got := c.take()
	require.Len(t, got, 2)
	for _, r := range got {
		require.EqualValues(t, forcedEnd, r.number(flowEndReason))
	}
	stop() // does nothing

	require.NoError(t, e.Start(network{}), "again")
	require.EqualError(t, e.Start(network{}), `ipfix: the exporter serves switch "lan" already`)
	s.send(udp4(t, 1, 2))
	stop()
	require.Len(t, c.take(), 1)
}

func TestInterfaceNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{})
		defer stop()
		a := e.plug(t, "a", 0)
		long := e.plug(t, strings.Repeat("x", 300), 1)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, map[uint32]string{1: "a", 2: strings.Repeat("x", 254)}, c.names)

		a.send(udp4(t, 1, 2))
		a.unplug()
		e.plug(t, "b", 0) // has the index now
		require.NoError(t, e.Change(long.port, &extension.Port{Name: "short", Index: 1}, long.state))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, map[uint32]string{1: "b", 2: "short"}, c.names)
		require.Len(t, c.take(), 1)
	})
}

func TestTemplatesAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{TemplateInterval: time.Minute})
		s := e.plug(t, "vm", 0)
		synctest.Wait()
		require.Equal(t, 1, c.described, "before anything else")
		c.mu.Lock()
		delete(c.names, 1)
		c.mu.Unlock()
		time.Sleep(60500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2, c.described)
		require.Equal(t, "vm", c.names[1])

		for i := range 1 << 15 { // some thousand messages
			s.send(udp4(t, i, 2))
			if i%1000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		stop()
		require.GreaterOrEqual(t, c.described, 3)
		require.Equal(t, 1<<15, packets(c.take()))
	})
}

func TestAPortHasItsShareOnly(t *testing.T) {
	e, c, stop := start(t, Config{MaxFlows: 20, MaxPortFlows: 15})
	a, b := e.plug(t, "a", 0), e.plug(t, "b", 1)
	for i := range 100 {
		a.send(udp4(t, i, 2))
	}
	require.Equal(t, Stats{Flows: 15, Evicted: 85}, statsWithout(e))
	for i := range 10 {
		b.send(udp4(t, i, 2))
	}
	require.Equal(t, Stats{Flows: 20, Evicted: 90}, statsWithout(e))
	require.Len(t, b.state.(*table).flows, 5, "as many as a leaves")

	third := e.plug(t, "third", 2)
	third.send(udp4(t, 1, 2), udp4(t, 1, 2))
	require.Equal(t, Stats{Flows: 20, Evicted: 92}, statsWithout(e), "each packet is a flow")
	stop()
	got := c.take()
	require.Equal(t, 112, packets(got))
	early := 0
	for _, r := range got {
		require.NotZero(t, r.number(packetDeltaCount))
		if r.number(flowEndReason) == uint64(lackOfResources) {
			early++
		}
	}
	require.Equal(t, 92, early)
	require.Zero(t, e.Stats().Flows)
}

// statsWithout returns what does not depend on how far the goroutine has come.
func statsWithout(e *Exporter) Stats {
	s := e.Stats()
	s.Records, s.Messages = 0, 0
	return s
}

func TestTheOldestMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{MaxFlows: 8, MaxPortFlows: 8})
		defer stop()
		s := e.plug(t, "vm", 0)
		for i := range 8 {
			s.send(udp4(t, i, 2))
			time.Sleep(time.Millisecond)
		}
		for i := range 7 {
			s.send(udp4(t, i, 2)) // all but the last
		}
		s.send(udp4(t, 100, 2))
		time.Sleep(time.Second)
		got := c.take()
		require.Len(t, got, 1)
		require.EqualValues(t, 7, got[0].number(sourceTransportPort))
	})
}

func TestLostPacketsAreCounted(t *testing.T) {
	e := newExporter(t, Config{MaxFlows: 1}, io.Discard) // not started
	s := e.plug(t, "vm", 0)
	for i := range queueRecords + 11 {
		s.send(udp4(t, i, 2))
	}
	require.Equal(t, Stats{Flows: 1, Evicted: queueRecords + 10, LostPackets: 10}, e.Stats())
}

func TestEarlyReportsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, stop := start(t, Config{MaxFlows: 1, MaxRate: 10})
		s := e.plug(t, "vm", 0)
		for range 3 { // seconds
			for i := range 100 {
				s.send(udp4(t, i, 2))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		stop()
		require.Equal(t, 31, packets(c.take()), "three times ten, and the last")
		require.EqualValues(t, 269, e.Stats().LostPackets)
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestABrokenCollectorHarmsItselfOnly(t *testing.T) {
	c := newCollector(t)
	e := newExporter(t, Config{}, broken{}, c)
	require.NoError(t, e.Start(network{}))
	e.plug(t, "vm", 0).send(udp4(t, 1, 2))
	e.Stop(network{})
	require.Len(t, c.take(), 1)
	require.Equal(t, Stats{Records: 1, Messages: 2, SendErrors: 2}, e.Stats())
}

func TestOnlyIngressOfPortsIsMetered(t *testing.T) {
	e := newExporter(t, Config{}, io.Discard)
	s := e.plug(t, "vm", 0)
	e.Capture(extension.NewBatch(extension.Egress, s.port, nil, s.state, udp4(t, 1, 2)))
	e.Capture(extension.NewBatch(extension.Ingress, nil, nil, nil, udp4(t, 1, 2)))
	dropped := extension.NewBatch(extension.Ingress, s.port, s.port, s.state, udp4(t, 1, 2))
	dropped.Drop(0, "runt")
	e.Capture(dropped)
	require.Zero(t, e.Stats().Flows)
}

func TestWorkersLoseNoPacket(t *testing.T) {
	const workers, batches = 4, 500
	e, c, stop := start(t, Config{MaxFlows: 64})
	all := []*station{e.plug(t, "uplink", 0), e.plug(t, "vm", 1)}
	var frames []*ports.Frame
	for i := range 64 {
		frames = append(frames, udp4(t, i, 2))
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range batches {
				at := (i + w) % 32
				all[i&1].send(frames[at : at+32]...)
			}
		})
	}
	wg.Wait()
	all[0].unplug()
	stop()
	require.Equal(t, workers*batches*32, packets(c.take())+int(e.Stats().LostPackets))
}

func TestASilentPortHoldsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, stop := start(t, Config{})
		defer stop()
		s := e.plug(t, "vm", 0)
		s.send(udp4(t, 1, 2))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		tab := s.state.(*table)
		require.Nil(t, tab.flows)
		require.Nil(t, tab.where)
	})
}

func TestConfigErrors(t *testing.T) {
	w := []io.Writer{io.Discard}
	for _, c := range []struct {
		config *Config
		want   string
	}{
		{nil, "ipfix: Collectors: none, and nobody else would get the flows"},
		{&Config{Collectors: []io.Writer{io.Discard, nil}}, "ipfix: Collectors[1]: nil is no writer"},
		{&Config{Collectors: w, MaxFlows: -1}, "ipfix: MaxFlows: -1 is out of 1–16777216"},
		{&Config{Collectors: w, MaxFlows: 10, MaxPortFlows: 11}, "ipfix: MaxPortFlows: 11 is out of 1–10 (MaxFlows)"},
		{&Config{Collectors: w, MaxRate: -5}, "ipfix: MaxRate: -5 is less than 1"},
		{&Config{Collectors: w, IdleTimeout: time.Millisecond}, "ipfix: IdleTimeout: 1ms is shorter than 1s"},
		{&Config{Collectors: w, ActiveTimeout: -1}, "ipfix: ActiveTimeout: -1ns is shorter than 1s"},
	} {
		_, err := New(c.config)
		require.EqualError(t, err, c.want)
	}
	e, err := New(&Config{Collectors: w})
	require.NoError(t, err)
	require.Equal(t, 65536, e.config.MaxFlows)
	require.Equal(t, 8192, e.config.MaxPortFlows)
}

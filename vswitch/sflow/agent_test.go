package sflow

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func TestFlowSample(t *testing.T) {
	a, c, stop := start(t, Config{Rate: 1, SubAgent: 3})
	s := a.plug(t, "vm", 6)
	long := udp(t, 1000, 1400)
	s.send(udp(t, 1000, 22), tagged(5<<13|42, long))
	stop()

	require.EqualValues(t, 3, c.datagrams[0].SubAgentID)
	require.Equal(t, agentAddr.String(), c.datagrams[0].AgentAddress.String())
	got := c.flows()
	require.Len(t, got, 2)
	for i, x := range got {
		require.EqualValues(t, i+1, x.SequenceNumber)
		require.EqualValues(t, i+1, x.SamplePool)
		require.EqualValues(t, 1, x.SamplingRate)
		require.EqualValues(t, 7, x.SourceIDIndex)
		require.EqualValues(t, 7, x.InputInterface)
		require.Zero(t, x.OutputInterface)
		require.Zero(t, x.Dropped)
	}
	require.Len(t, got[0].Records, 1)
	r := rawHeaderOf(got[0])
	require.EqualValues(t, 68, r.FrameLength)
	require.EqualValues(t, 4, r.PayloadRemoved)
	require.EqualValues(t, 64, r.HeaderLength)

	require.Len(t, got[1].Records, 2)
	r = rawHeaderOf(got[1])
	require.EqualValues(t, long.WireLen()+4, r.FrameLength)
	require.EqualValues(t, 128, r.HeaderLength)
	wire := make([]byte, long.WireLen())
	long.CopyTo(wire)
	require.Equal(t, wire[:128], c.raw[0][len(c.raw[0])-24-128:len(c.raw[0])-24], "the tag is inserted")
	x := got[1].Records[1].(layers.SFlowExtendedSwitchFlowRecord)
	require.EqualValues(t, 42, x.IncomingVLAN)
	require.EqualValues(t, 5, x.IncomingVLANPriority)
	require.Zero(t, x.OutgoingVLAN)
	require.Equal(t, Stats{FlowSamples: 2, Datagrams: 1}, a.Stats())
}

func TestHeaderLengths(t *testing.T) {
	for _, n := range []int{16, 17, 128, 256} {
		for _, f := range []*ports.Frame{udp(t, 1, 1000), tagged(7, udp(t, 1, 1000)), raw(make([]byte, 14)), tagged(7, raw(make([]byte, 14)))} {
			a, c, stop := start(t, Config{Rate: 1, HeaderLen: n, Agent: netip.MustParseAddr("2001:db8::1")})
			a.plug(t, "vm", 0).send(f)
			stop()
			require.EqualValues(t, min(n, f.WireLen()), rawHeaderOf(c.flows()[0]).HeaderLength)
			require.Equal(t, "2001:db8::1", c.datagrams[0].AgentAddress.String())
		}
	}
}

func TestEgress(t *testing.T) {
	a, c, stop := start(t, Config{Rate: 1, Egress: true})
	x, y := a.plug(t, "x", 0), a.plug(t, "y", 1)
	f := tagged(42, udp(t, 1, 22))
	x.send(f)
	y.receive(x.port, f)
	y.receive(nil, f)
	stop()
	got := c.flows()
	require.Len(t, got, 3)
	for i, want := range [][4]int{{1, 1, 0, 1}, {2, 1, 2, 1}, {2, 0, 2, 2}} {
		require.Equal(t, want, [4]int{int(got[i].SourceIDIndex), int(got[i].InputInterface), int(got[i].OutputInterface), int(got[i].SamplePool)})
	}
	require.EqualValues(t, 42, got[1].Records[1].(layers.SFlowExtendedSwitchFlowRecord).OutgoingVLAN)

	a, c, stop = start(t, Config{Rate: 1})
	a.plug(t, "x", 0).receive(nil, f)
	stop()
	require.Empty(t, c.flows(), "by default ingress only")
}

func TestOnlyFramesOfPortsCount(t *testing.T) {
	a, c, stop := start(t, Config{Rate: 1})
	s := a.plug(t, "vm", 0)
	a.Capture(extension.NewBatch(extension.Ingress, nil, nil, nil, udp(t, 1, 22)))
	b := extension.NewBatch(extension.Ingress, s.port, s.port, s.state, raw(nil), udp(t, 1, 22), raw(nil), udp(t, 1, 33))
	b.Drop(0, "runt")
	b.Drop(2, "runt")
	a.Capture(b)
	stop()
	got := c.flows()
	require.Len(t, got, 2)
	require.EqualValues(t, 64, rawHeaderOf(got[0]).HeaderLength)
	require.EqualValues(t, 75, rawHeaderOf(got[1]).HeaderLength)
	require.EqualValues(t, 2, got[1].SamplePool)
}

func TestASampleWaitsNoLongerThanASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c, stop := start(t, Config{Rate: 1})
		defer stop()
		s := a.plug(t, "vm", 0)
		s.send(udp(t, 1, 22))
		time.Sleep(1001 * time.Millisecond)
		require.Equal(t, 1, len(c.flows()))
		require.EqualValues(t, 1000, c.datagrams[0].AgentUptime)

		s.send(repeat(udp(t, 1, 22), 100)...)
		synctest.Wait()
		require.Greater(t, len(c.flows()), queueSamples/8, "so many do not wait")
		time.Sleep(time.Second)
		require.Equal(t, 101, len(c.flows()))
		require.LessOrEqual(t, a.Stats().Datagrams, uint64(1+1+100/10))
	})
}

func TestDropsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, c, stop := start(t, Config{Rate: 1, MaxRate: 10})
		x, y := a.plug(t, "x", 0), a.plug(t, "y", 1)
		x.send(repeat(udp(t, 1, 22), 25)...)
		y.send(repeat(udp(t, 1, 22), 3)...)
		time.Sleep(time.Second + time.Millisecond)
		x.send(udp(t, 1, 22))
		y.send(udp(t, 1, 22))
		stop()
		got := c.flows()
		require.Len(t, got, 12)
		for i, want := range []uint32{15, 3} {
			require.Equal(t, want, got[10+i].Dropped)
			require.Equal(t, want+got[10+i].SequenceNumber, got[10+i].SamplePool, "sent and dropped are all")
		}
		require.EqualValues(t, 18, a.Stats().Dropped)
	})
	a := newAgent(t, Config{Rate: 1}, io.Discard) // not started: nobody takes samples away
	s := a.plug(t, "vm", 0)
	s.send(repeat(udp(t, 1, 22), queueSamples+5)...)
	require.EqualValues(t, 5, a.Stats().Dropped)
	require.EqualValues(t, 5, s.state.(*source).drops.Load())
}

func TestCounterSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counters := func(p *extension.Port) (Counters, bool) {
			return Counters{
				RxFrames: 1, RxBytes: 1 << 40, RxDrops: 3, TxFrames: 4, TxBytes: 5, TxDrops: 6, Speed: 10e9, Up: true,
			}, p.Name != "hidden"
		}
		a, c, stop := start(t, Config{Counters: counters})
		defer stop()
		name := strings.Repeat("x", 300)
		s := a.plug(t, name, 6)
		a.plug(t, "hidden", 7)
		time.Sleep(100*time.Second + time.Millisecond)
		s.unplug()
		time.Sleep(100 * time.Second)
		got := c.counters()
		require.Len(t, got, 5, "one in 20 s")
		for i, x := range got {
			require.EqualValues(t, i+1, x.SequenceNumber)
			require.EqualValues(t, 7, x.SourceIDIndex)
			require.Len(t, x.Records, 2)
			g := x.Records[0].(layers.SFlowGenericInterfaceCounters)
			require.EqualValues(t, 7, g.IfIndex)
			require.EqualValues(t, 6, g.IfType)
			require.EqualValues(t, 10e9, g.IfSpeed)
			require.EqualValues(t, 1, g.IfDirection)
			require.EqualValues(t, 3, g.IfStatus)
			require.EqualValues(t, uint64(1<<40), g.IfInOctets)
			require.EqualValues(t, 1, g.IfInUcastPkts)
			require.EqualValues(t, 3, g.IfInDiscards)
			require.EqualValues(t, 5, g.IfOutOctets)
			require.EqualValues(t, 4, g.IfOutUcastPkts)
			require.EqualValues(t, 6, g.IfOutDiscards)
			require.EqualValues(t, uint32(notCounted), g.IfInBroadcastPkts)
			require.Equal(t, name[:255], x.Records[1].(layers.SFlowPORTNAME).Str)
		}
		require.EqualValues(t, 5, a.Stats().CounterSamples)
	})
}

func TestChangeRenamesThePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		a, _, stop := start(t, Config{CounterInterval: time.Second, Counters: func(p *extension.Port) (Counters, bool) {
			names = append(names, p.Name)
			return Counters{}, true
		}})
		s := a.plug(t, "old", 0)
		time.Sleep(1500 * time.Millisecond)
		require.NoError(t, a.Change(s.port, &extension.Port{Name: "new"}, s.state))
		time.Sleep(time.Second)
		stop()
		require.Equal(t, []string{"old", "new"}, names)
	})
}

// A switch may hold a lock that Counters wants while it waits for Stop.
func TestStopDoesNotWaitForCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		a, c, stop := start(t, Config{Rate: 1, CounterInterval: time.Second, Counters: func(*extension.Port) (Counters, bool) {
			<-stopped
			return Counters{}, true
		}})
		s := a.plug(t, "vm", 0)
		time.Sleep(3 * time.Second)
		s.send(udp(t, 1, 22))
		stop()
		require.Equal(t, 1, len(c.flows()))
		close(stopped)
		synctest.Wait()
		require.Empty(t, c.counters(), "nothing is sent after Stop")
	})
}

func TestStartAndStop(t *testing.T) {
	a, c, stop := start(t, Config{Rate: 1})
	require.EqualError(t, a.Start(network{}), `sflow: the agent serves switch "lan" already`)
	stop()
	stop()
	require.NoError(t, a.Start(network{}))
	a.plug(t, "vm", 0).send(udp(t, 1, 22))
	stop()
	require.Equal(t, 1, len(c.flows()))
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestABrokenCollectorHarmsItselfOnly(t *testing.T) {
	c := &collector{t: t}
	a := newAgent(t, Config{Rate: 1}, broken{}, c)
	require.NoError(t, a.Start(network{}))
	a.plug(t, "vm", 0).send(udp(t, 1, 22))
	a.Stop(network{})
	require.Equal(t, 1, len(c.flows()))
	require.Equal(t, Stats{FlowSamples: 1, Datagrams: 1, SendErrors: 1}, a.Stats())
}

func TestConfigErrors(t *testing.T) {
	w := []io.Writer{io.Discard}
	for _, c := range []struct {
		config *Config
		want   string
	}{
		{nil, "sflow: Collectors: none, and nobody else would get the samples"},
		{&Config{Collectors: []io.Writer{nil}, Agent: agentAddr}, "sflow: Collectors[0]: nil is no writer"},
		{&Config{Collectors: w}, "sflow: Agent: no address, and collectors know the host by it"},
		{&Config{Collectors: w, Agent: agentAddr, Rate: -1}, "sflow: Rate: -1 is out of 1–2147483647"},
		{&Config{Collectors: w, Agent: agentAddr, HeaderLen: 257}, "sflow: HeaderLen: 257 is out of 16–256"},
		{&Config{Collectors: w, Agent: agentAddr, MaxRate: -1}, "sflow: MaxRate: -1 is out of 1–2147483647"},
		{&Config{Collectors: w, Agent: agentAddr, CounterInterval: 1}, "sflow: CounterInterval: 1ns is shorter than 1s"},
	} {
		_, err := New(c.config)
		require.EqualError(t, err, c.want)
	}
	a := newAgent(t, Config{}, io.Discard)
	require.Equal(t, 1000, a.config.Rate)
	require.Equal(t, 128, a.config.HeaderLen)
	require.Equal(t, 20*time.Second, a.config.CounterInterval)
}

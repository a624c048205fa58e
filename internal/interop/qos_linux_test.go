package interop

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
)

// payloadOf is the part of a wire that is payload of TCP, with time stamps, in full frames.
const payloadOf = 1448. / 1538

// newGuestsBehind returns guests on a switch whose uplink carries rate bit/s, and the wire behind it.
func newGuestsBehind(t *testing.T, rate uint64, weights ...int) (wire *guest, guests []*guest) {
	t.Helper()
	wire = newGuest(t, "wire")
	for i := range weights {
		guests = append(guests, newGuest(t, fmt.Sprintf("vm%d", i)))
	}
	host := newHost(t)
	_, err := host.AddNIC("uplink", wire.tap())
	require.NoError(t, err)
	_, err = host.NewSwitch("lab", &vswitch.SwitchConfig{
		Type: vswitch.External, Uplink: "uplink", QoS: &vswitch.QoSConfig{LinkRate: rate},
	})
	require.NoError(t, err)
	wire.up("10.0.0.100")
	for i, g := range guests {
		g.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		g.attach(host)
		g.up(fmt.Sprintf("10.0.0.%d", i+1))
		g.configure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinWeight = weights[i] })
	}
	return wire, guests
}

// sends makes guests send to the wire for some seconds, all at once, and returns what has arrived in bit/s of the wire.
func sends(wire *guest, seconds int, guests ...*guest) (rates []float64) {
	wire.t.Helper()
	var clients []*process
	for i, g := range guests {
		port := strconv.Itoa(5201 + i)
		wire.start("iperf3", "-s", "-1", "-p", port, "--forceflush").awaits(wire.t, "Server listening")
		clients = append(clients, g.start("iperf3", "-c", wire.addr, "-p", port, "-C", "cubic", "-t", strconv.Itoa(seconds), "-O", "1", "-J"))
	}
	for i, c := range clients {
		require.NoError(wire.t, c.Wait(), c.said)
		rates = append(rates, guests[i].received(c.said.String())/payloadOf)
	}
	return rates
}

func TestWeightsShareTheUplinkOfRealGuests(t *testing.T) {
	needs(t, "iperf3", "ping")
	const rate = 500e6
	wire, vm := newGuestsBehind(t, rate, 20, 50, 30, 10)
	idle := ping(vm[3], wire)
	var got, busy []float64
	var sum float64
	for range 3 { // a machine that has other things to do may not fill the link
		pings := make(chan []float64)
		go func() { pings <- ping(vm[3], wire) }()
		got = sends(wire, 2, vm[:3]...)
		busy = <-pings
		if sum = got[0] + got[1] + got[2]; sum > 0.9*rate {
			break
		}
	}
	t.Logf("weights 20, 50, 30 of 500 Mbit/s: %.1f, %.1f, %.1f %% of the %.0f Mbit/s that arrived",
		100*got[0]/sum, 100*got[1]/sum, 100*got[2]/sum, sum/1e6)
	t.Logf("ping: p50 %.2f ms, p99 %.2f ms; on the idle link %.2f and %.2f ms",
		busy[len(busy)/2], busy[len(busy)*99/100], idle[len(idle)/2], idle[len(idle)*99/100])
	require.Less(t, sum, 1.05*rate)
	require.Greater(t, sum, 0.25*rate)
	for i, want := range []float64{20, 50, 30} {
		require.InDelta(t, want, 100*got[i]/sum, 8)
	}
}

// ping returns the round-trip times of 100 pings, in ms, the shortest first.
func ping(from, to *guest) (ms []float64) {
	from.t.Helper()
	out, err := from.run("ping", "-n", "-c", "100", "-i", "0.01", to.addr)
	require.NoError(from.t, err, out)
	for _, m := range regexp.MustCompile(`time=([0-9.]+) ms`).FindAllStringSubmatch(out, -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		require.NoError(from.t, err)
		ms = append(ms, v)
	}
	require.NotEmpty(from.t, ms, out)
	slices.Sort(ms)
	return ms
}

func TestMaximumBandwidthOfRealGuests(t *testing.T) {
	needs(t, "iperf3")
	wire, vm := newGuestsBehind(t, 10e9, 0)
	for _, rate := range []uint64{100e6, 1e9} {
		vm[0].configure(func(c *vswitch.VNICConfig) { c.Bandwidth.MaxRate = rate })
		got := sends(wire, 1, vm[0])[0]
		t.Logf("maximum %d Mbit/s: %.2f Mbit/s", rate/1e6, got/1e6)
		require.Less(t, got, 1.05*float64(rate)) // as iperf3 measures its interval
		require.Greater(t, got, 0.5*float64(rate))
	}
	require.NotZero(t, vm[0].vnic.Stats().Paused)
	require.Zero(t, vm[0].drops(vswitch.DropQueueFull))
}

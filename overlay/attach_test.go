package overlay

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// farHost is another host of a virtual subnet: what it puts on the cable is encapsulated, and what it takes
// off is what was inside.
type farHost struct {
	portstest.Peer
	tunnel *Tunnel
	frame  ports.Frame
}

func (h *farHost) Put(p portstest.Packet) error {
	h.frame.CopyFrom(frameOf(p.Bytes))
	if err := h.tunnel.Encap(&h.frame, 5001); err != nil {
		return err
	}
	return h.Peer.Put(portstest.Packet{Bytes: wire(&h.frame), Queue: p.Queue})
}

func (h *farHost) Take(wait time.Duration) (portstest.Packet, bool) {
	for {
		p, ok := h.Peer.Take(wait)
		if !ok {
			return p, false
		}
		f := frameOf(p.Bytes)
		var d Decoder
		var e Encapsulated
		if d.Decap(f, &e) == 0 { // else a question for a next hop
			return portstest.Packet{Bytes: wire(f)}, true
		}
	}
}

// attached returns a vNIC in VSID 5001 and the far end of the cable of its host, whose PA is 192.0.2.2.
func attached(t testing.TB, device *ports.PipeConfig, c *Config, v VNICConfig) (*Underlay, *VNIC, *ports.PipeEnd) {
	t.Helper()
	c.Addresses = []ProviderAddress{{Address: prefix("192.0.2.1/24"), MAC: mac(0xa1)}}
	e, err := NewEngine(c)
	require.NoError(t, err)
	changes := []Change{
		{Subnet: &Subnet{VSID: 5001, RDID: red, Unknown: FloodUnknown}},
		{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: addr("192.0.2.2"), Rule: v.Rule}},
	}
	// Those that the suite uses are not the first of their prefix, which is the router.
	for _, p := range []string{"10.0.0.0/24", "198.16.0.0/13", "2001:d00::/24"} {
		changes = append(changes, Change{Route: &CustomerRoute{RDID: red, VSID: 5001, Destination: prefix(p)}})
	}
	require.NoError(t, e.Apply(changes))
	near, far, err := ports.Pipe(device)
	require.NoError(t, err)
	u, err := NewUnderlay(e, near)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, u.Close()) })
	e.neighbors.heard(0, addr("192.0.2.2"), mac(0xa2), u.now())
	v.VSID, v.MAC = 5001, mac(1)
	n, err := u.Attach(v)
	require.NoError(t, err)
	return u, n, far
}

func TestVNICConforms(t *testing.T) {
	for name, c := range map[string]struct {
		device ports.PipeConfig
		config Config
		vnic   VNICConfig
	}{
		"NVGRE":    {},
		"VXLAN":    {vnic: VNICConfig{Rule: VXLAN}},
		"Geneve":   {vnic: VNICConfig{Rule: Geneve}, config: Config{Offloads: ports.OffloadChecksum}, device: ports.PipeConfig{Offloads: ports.OffloadChecksum}},
		"queues":   {device: ports.PipeConfig{Queues: 3}, vnic: VNICConfig{Queues: 4}},
		"jumbo":    {device: ports.PipeConfig{MTU: 9000}, config: Config{MTU: 9000}},
		"with GSO": {device: ports.PipeConfig{MTU: 1600, Offloads: ports.OffloadAll}},
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				config, device := c.config, c.device
				_, v, far := attached(t, &device, &config, c.vnic)
				return portstest.Rig{
					Backend: v,
					Peer:    &farHost{Peer: portstest.Far(far), tunnel: tunnelTo(t, c.vnic.Rule)},
					Depth:   128, // queues of vNICs share those of the device
					SetLink: far.SetLink,
					Lacks: portstest.Lacks{
						portstest.Backpressure: "frames for which the device has no room are dropped",
						portstest.Runts:        "what is shorter than an Ethernet header is not encapsulated",
						portstest.Tags:         "no VLAN tag crosses a virtual subnet (RFC 7637, section 3.3)",
					},
				}
			})
		})
	}
}

// tunnelTo is that of the far host to 192.0.2.1.
func tunnelTo(t testing.TB, e Encapsulation) *Tunnel {
	t.Helper()
	tun, err := NewTunnel(&TunnelConfig{Encapsulation: e, Src: addr("192.0.2.2"), Dst: addr("192.0.2.1"), SrcMAC: mac(0xa2), DstMAC: mac(0xa1)})
	require.NoError(t, err)
	return tun
}

func TestVNICHasTheInnerMTU(t *testing.T) {
	for rule, want := range map[Encapsulation]int{NVGRE: 1458, VXLAN: 1450, Geneve: 1450} {
		_, v, _ := attached(t, nil, &Config{}, VNICConfig{Rule: rule})
		require.Equal(t, want, v.Info().MTU, "%s", rule)
	}
	u, v, _ := attached(t, nil, &Config{}, VNICConfig{MTU: 1500})
	p := packet{src: mac(1), dst: mac(2), from: addr("10.0.0.11"), to: addr("10.0.0.12"), payload: 1472, df: true}
	n, err := v.Tx(0).Send([]*ports.Frame{p.frame(t)})
	require.True(t, n == 1 && err == nil, "what the way does not carry is the engine's to refuse")
	b := ports.NewBatch(9)
	require.NoError(t, v.Rx(0).Recv(b))
	require.Len(t, b.Frames(), 1)
	require.Equal(t, []byte{3, 4}, b.Frames()[0].Head()[34:36], "ICMP: too big")
	require.Equal(t, map[Drop]uint64{DropTooBig: 1}, v.Stats().Drops)
	require.Empty(t, u.Stats().Drops)
}

// What the device has no room for, and what comes and is not for a vNIC, is counted.
func TestUnderlayCountsWhatItDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, v, far := attached(t, &ports.PipeConfig{Depth: 4}, &Config{}, VNICConfig{Depth: 2})
		var frames []*ports.Frame
		for range 6 {
			frames = append(frames, packet{src: mac(1), dst: mac(2), from: addr("10.0.0.11"), to: addr("10.0.0.12")}.frame(t))
		}
		n, err := v.Tx(0).Send(frames)
		require.True(t, n == 6 && err == nil)
		require.Equal(t, map[Drop]uint64{DropNoRoom: 2}, v.Stats().Drops)
		require.Equal(t, uint64(6), v.Stats().RxFrames)
		far.SetLink(false)
		require.False(t, v.Link().Up)
		_, _ = v.Tx(0).Send(frames[:1])
		require.Equal(t, uint64(1), v.Stats().Drops[DropLinkDown])
		far.SetLink(true)

		put := func(f *ports.Frame) {
			n, err := far.Tx(0).Send([]*ports.Frame{f})
			require.True(t, n == 1 && err == nil)
			synctest.Wait()
		}
		put(packet{src: mac(9), dst: mac(0xa1), from: addr("192.0.2.9"), to: addr("192.0.2.1")}.frame(t)) // UDP, but no tunnel
		for range 3 {
			in := packet{src: mac(2), dst: mac(1), from: addr("10.0.0.12"), to: addr("10.0.0.11")}.frame(t)
			require.NoError(t, tunnelTo(t, NVGRE).Encap(in, 5001))
			put(in)
		}
		require.Equal(t, UnderlayStats{RxFrames: 4, TxFrames: 4, Drops: map[Drop]uint64{DropNotTunnel: 1}}, u.Stats())
		require.Equal(t, uint64(2), v.Stats().TxFrames)
		require.Equal(t, uint64(3), v.Stats().Drops[DropNoRoom])

		// The host answers for its provider address.
		far.Rx(0).Release()
		b := ports.NewBatch(9)
		require.NoError(t, far.Rx(0).Recv(b))
		b.Reset()
		far.Rx(0).Release()
		put(arpFrame(ports.Broadcast, mac(0xa2), arp(1, mac(0xa2), "192.0.2.2", ports.MAC{}, "192.0.2.1")).frame(t))
		require.NoError(t, far.Rx(0).Recv(b))
		require.Equal(t, [][]byte{arpFrame(mac(0xa2), mac(0xa1), arp(2, mac(0xa1), "192.0.2.1", mac(0xa2), "192.0.2.2")).bytes(t)}, wires(b.Frames()))
		require.NoError(t, u.Close())
	})
}

func wires(fs []*ports.Frame) (all [][]byte) {
	for _, f := range fs {
		all = append(all, wire(f))
	}
	return all
}

// Two vNICs of a host reach each other while there is no provider network, large segments as a whole.
func TestVNICsOfOneHost(t *testing.T) {
	u, v, far := attached(t, nil, &Config{}, VNICConfig{})
	require.NoError(t, u.engine.Apply([]Change{
		{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.11"), MAC: mac(1), PA: addr("192.0.2.1")}},
		{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.13"), MAC: mac(3), PA: addr("192.0.2.1")}},
	}))
	other, err := u.Attach(VNICConfig{PortConfig: PortConfig{ID: 3, VSID: 5001, MAC: mac(3)}})
	require.NoError(t, err)
	_, err = u.Attach(VNICConfig{PortConfig: PortConfig{ID: 4, VSID: 5001, MAC: mac(3)}})
	require.ErrorContains(t, err, "is that of port 3")
	far.SetLink(false)
	p := packet{src: mac(1), dst: mac(3), from: addr("10.0.0.11"), to: addr("10.0.0.13"), proto: 6, payload: 30000}
	f := p.asking(t, 1400)
	n, err := v.Tx(0).Send([]*ports.Frame{f})
	require.True(t, n == 1 && err == nil)
	b := ports.NewBatch(9)
	require.NoError(t, other.Rx(0).Recv(b))
	require.True(t, b.Len() == 1 && bytes.Equal(wire(f), wire(b.Frames()[0])))
	require.Equal(t, f.Offload, b.Frames()[0].Offload)
	require.NoError(t, other.Close())
	n, err = v.Tx(0).Send([]*ports.Frame{f})
	require.True(t, n == 1 && err == nil)
	require.Equal(t, map[Drop]uint64{DropNotHere: 1}, v.Stats().Drops)
}

func TestUnderlayWhoseDeviceDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, v, far := attached(t, nil, &Config{}, VNICConfig{})
		var links []bool
		v.WatchLink(func(l ports.Link) { links = append(links, l.Up) })
		require.NoError(t, far.Close())
		synctest.Wait()
		require.ErrorIs(t, u.Err(), ports.ErrClosed)
		require.Equal(t, []bool{false}, links)
		require.NoError(t, u.Close())
		_, err := v.Tx(0).Send([]*ports.Frame{inner4.frame(t)})
		require.ErrorIs(t, err, ports.ErrClosed)
		_, err = u.Attach(VNICConfig{PortConfig: PortConfig{VSID: 5001, MAC: mac(7)}})
		require.ErrorIs(t, err, ports.ErrClosed)
	})
}

func TestUnderlayConfig(t *testing.T) {
	near, _, err := ports.Pipe(&ports.PipeConfig{Name: "nic0"})
	require.NoError(t, err)
	for want, c := range map[string]*Config{
		`provider network: MTU 9000 is more than the 1500 of device "nic0"`: {MTU: 9000},
		`provider network: Offloads 1 are not those of device "nic0"`:       {Offloads: ports.OffloadChecksum},
	} {
		e, err := NewEngine(c)
		require.NoError(t, err)
		_, err = NewUnderlay(e, near)
		require.EqualError(t, err, want)
	}
	e, err := NewEngine(nil)
	require.NoError(t, err)
	u, err := NewUnderlay(e, near)
	require.NoError(t, err)
	defer u.Close()
	ok := PortConfig{ID: 1, VSID: 5001, MAC: mac(1)}
	for want, c := range map[string]VNICConfig{
		"port 1: MTU 67 is out of 68–65535":      {PortConfig: ok, MTU: 67},
		"port 1: Queues 257 is out of 1–256":     {PortConfig: ok, Queues: 257},
		"port 1: Depth -1 is out of 1–65536":     {PortConfig: ok, Depth: -1},
		"port 1: Rule 3 does not exist":          {PortConfig: ok, Rule: encapsulations},
		"port 0: VSID 7 is out of 4096–16777214": {PortConfig: PortConfig{VSID: 7, MAC: mac(1)}},
	} {
		_, err := u.Attach(c)
		require.EqualError(t, err, want)
	}
}

// Flows spread over the receive queues of a vNIC, and stay there.
func TestVNICSpreadsFlows(t *testing.T) {
	_, v, far := attached(t, nil, &Config{}, VNICConfig{Queues: 4})
	peer := &farHost{Peer: portstest.Far(far), tunnel: tunnelTo(t, NVGRE)}
	for port := range uint16(64) {
		p := packet{src: mac(2), dst: mac(1), from: addr("10.0.0.12"), to: addr("10.0.0.11"), sport: port}
		for range 2 {
			require.NoError(t, peer.Put(portstest.Packet{Bytes: p.bytes(t)}))
		}
	}
	require.Eventually(t, func() bool { return v.Stats().TxFrames == 128 }, 10*time.Second, time.Millisecond)
	on := map[string]int{}
	for q := range 4 {
		b := ports.NewBatch(128)
		require.NoError(t, v.Rx(q).Recv(b))
		require.Greater(t, b.Len(), 8, "queue %d", q)
		for _, f := range b.Frames() {
			flow := fmt.Sprintf("%x", f.Head()[34:36])
			if was, ok := on[flow]; ok {
				require.Equal(t, was, q)
			}
			on[flow] = q
		}
	}
	require.Len(t, on, 64)
}

package vswitch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

func newEngine(t *testing.T) *overlay.Engine {
	t.Helper()
	e, err := overlay.NewEngine(nil)
	require.NoError(t, err)
	return e
}

// taken reports whether somebody has a port with that MAC address in an engine.
func taken(t *testing.T, e *overlay.Engine, vsid overlay.VSID, mac ports.MAC) bool {
	t.Helper()
	p, err := e.AddPort(overlay.PortConfig{VSID: vsid, MAC: mac})
	if err == nil {
		p.Close()
	}
	return err != nil
}

func TestAWrongOverlayOfASwitchIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		full := newEngine(t)
		_, err := full.AddPort(overlay.PortConfig{ID: 7, VSID: 5001, MAC: b.mac})
		require.NoError(t, err)
		_, err = n.host.AddNIC("nonsense", &stub{info: ports.Info{MTU: 1500, TxQueues: 1}})
		require.NoError(t, err)
		was := n.sw().Config()
		for _, x := range []struct {
			change func(c *vswitch.SwitchConfig)
			is     error
			says   string
		}{
			{func(c *vswitch.SwitchConfig) { c.Overlay = nil }, vswitch.ErrInUse, `switch "lab": Overlay: vNIC "a" with VSID 5001 needs it: in use`},
			{func(c *vswitch.SwitchConfig) { c.Type, c.Uplink = vswitch.Internal, "" }, vswitch.ErrInvalid, `switch "lab": Overlay: a switch of type internal has none`},
			{func(c *vswitch.SwitchConfig) { c.Type, c.Uplink, c.Overlay = vswitch.Private, "", nil }, vswitch.ErrInUse, `vNIC "a"`},
			{func(c *vswitch.SwitchConfig) { c.Overlay = full }, vswitch.ErrInvalid, `switch "lab": Overlay: vNIC "b": overlay: port`},
			{func(c *vswitch.SwitchConfig) { // something else fails when the overlay has been prepared
				c.Overlay, c.Uplink = newEngine(t), "nonsense"
			}, vswitch.ErrInvalid, "nonsense"},
		} {
			cfg := n.sw().Config()
			x.change(&cfg)
			err := n.sw().SetConfig(cfg)
			require.ErrorIs(t, err, x.is)
			require.ErrorContains(t, err, x.says)
			require.Equal(t, was, n.sw().Config())
			require.False(t, taken(t, full, 5001, a.mac))
			if cfg.Overlay != nil && cfg.Overlay != full && cfg.Overlay != n.engine {
				require.False(t, taken(t, cfg.Overlay, 5001, a.mac))
			}
			a.says(b, "still here")
			require.Equal(t, []string{"still here"}, b.hears())
		}

		n.nic("eth1")
		second := vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth1", Overlay: n.engine}
		_, err = n.host.NewSwitch("second", &second)
		require.ErrorIs(t, err, vswitch.ErrInUse)
		require.ErrorContains(t, err, `switch "second": Overlay: the engine is that of switch "lab"`)
		second.Type, second.Uplink = vswitch.Private, ""
		_, err = n.host.NewSwitch("second", &second)
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		require.Nil(t, n.host.Switch("second"))

		require.NoError(t, n.sw().Close())
		require.False(t, a.vnic.Connected())
		require.False(t, taken(t, n.engine, 5001, a.mac))
		n.newSwitch("lab", was) // with the ID of the one before
		require.True(t, a.vnic.Connected())
		a.says(b, "back again")
		require.Equal(t, []string{"back again"}, b.hears())
	})
}

func TestAWrongVSIDOfAVNICIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		n.newSwitch("plain", vswitch.SwitchConfig{})
		inPlain := n.guest("inPlain", vswitch.VNICConfig{Switch: "plain"})
		foreign := stranger(4)
		_, err := n.engine.AddPort(overlay.PortConfig{ID: 4, VSID: 5001, MAC: foreign})
		require.NoError(t, err)
		for _, x := range []struct {
			of     *station
			change func(c *vswitch.VNICConfig)
			says   string
		}{
			{a.station, func(c *vswitch.VNICConfig) { c.VSID = 4095 }, `vNIC "a": VSID 4095 is out of 4096–16777214`},
			{a.station, func(c *vswitch.VNICConfig) { c.VSID = 0xffffff }, `vNIC "a": VSID 16777215 is out of 4096–16777214`},
			{a.station, func(c *vswitch.VNICConfig) { c.VLAN = vlan.Access(5) }, `vNIC "a": VSID 5001 does not go with VLAN access(5), which must be untagged`},
			{a.station, func(c *vswitch.VNICConfig) { c.Switch = "plain" }, `switch "plain": vNIC "a": VSID 5001: the switch has no Overlay`},
			{inPlain, func(c *vswitch.VNICConfig) { c.VSID = 5001 }, `switch "plain": vNIC "inPlain": VSID 5001: the switch has no Overlay`},
			{a.station, func(c *vswitch.VNICConfig) { c.MAC = foreign }, `switch "lab": port "a": overlay: port`},
		} {
			was := x.of.vnic.Config()
			cfg := was
			x.change(&cfg)
			err := x.of.vnic.SetConfig(cfg)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
			require.ErrorContains(t, err, x.says)
			require.Equal(t, was, x.of.vnic.Config())
			require.True(t, x.of.vnic.Connected())
			a.says(b, "still here")
			require.Equal(t, []string{"still here"}, b.hears())

			other, far := n.pipe(ports.PipeConfig{})
			_, err = n.host.NewVNIC("new", other, &vswitch.VNICConfig{Switch: cfg.Switch, VSID: cfg.VSID, VLAN: cfg.VLAN, MAC: cfg.MAC})
			require.Error(t, err)
			require.Nil(t, n.host.VNIC("new"))
			require.NoError(t, other.Close())
			require.NoError(t, far.Close())
		}
	})
}

// A vNIC with a VSID waits for a switch of that name that has an overlay.
func TestAVNICWaitsForAnOverlay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := &cloud{t: t}
		n := c.newNode(0)
		n.wire = n.nic("eth0")
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		require.False(t, a.vnic.Connected())
		n.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		require.False(t, a.vnic.Connected())
		a.reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "still waiting" })
		n.reconfigure(func(c *vswitch.SwitchConfig) { c.Overlay = n.engine })
		require.True(t, a.vnic.Connected())
		a.says(b, "at last")
		require.Equal(t, []string{"at last"}, b.hears())
		require.NoError(t, a.vnic.Close())
		require.False(t, taken(t, n.engine, 5001, a.mac))
	})
}

// Overlay, VSID and MAC change while frames flow, and nothing gets where it may not.
func TestChangesOfTheOverlayUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.subnet(blue, 6001, "10.0.0.0/24")
		c.apply(overlay.Change{Subnet: &overlay.Subnet{VSID: 5001, RDID: red, Unknown: overlay.FloodUnknown}},
			overlay.Change{Subnet: &overlay.Subnet{VSID: 6001, RDID: blue, Unknown: overlay.FloodUnknown}})
		from := n.guest("from", vswitch.VNICConfig{Switch: "lab", VSID: 5001})
		to := n.guest("to", vswitch.VNICConfig{Switch: "lab", VSID: 5001})
		for _, s := range []*station{from, to} {
			c.apply(overlay.Change{Record: &overlay.LookupRecord{VSID: 5001, MAC: s.mac, PA: n.pa, Type: overlay.L2Only}})
		}
		policy := []overlay.Change{}
		for s := range n.engine.Subnets() {
			policy = append(policy, overlay.Change{Subnet: &s})
		}
		for r := range n.engine.Records() {
			policy = append(policy, overlay.Change{Record: &r})
		}
		provider := n.engine.Config()
		blueVM := n.guest("blue", vswitch.VNICConfig{Switch: "lab", VSID: 6001})
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		moving := n.guest("moving", vswitch.VNICConfig{Switch: "lab", VSID: 5001})
		f := n.flow(from, to)
		f.goOn(100)
		for i := range 20 {
			second, err := overlay.NewEngine(&provider)
			require.NoError(t, err)
			require.NoError(t, second.Apply(policy))
			n.reconfigure(func(c *vswitch.SwitchConfig) { c.Overlay = second })
			f.goOn(100)
			require.False(t, taken(t, n.engine, 5001, to.mac))
			require.True(t, taken(t, second, 5001, to.mac))
			moving.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 6001 })
			f.goOn(50)
			moving.reconfigure(func(c *vswitch.VNICConfig) { c.MAC = stranger(100 + i) })
			require.True(t, taken(t, second, 6001, stranger(100+i)))
			require.False(t, taken(t, second, 6001, moving.mac))
			f.goOn(50)
			moving.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 0 })
			require.False(t, taken(t, second, 6001, stranger(100+i)))
			f.goOn(50)
			moving.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 5001 })
			n.reconfigure(func(c *vswitch.SwitchConfig) { c.Overlay = n.engine })
			f.goOn(50)
		}
		f.stop()
		for _, s := range []*station{blueVM, plain, moving} {
			require.Empty(t, s.received())
		}
		for _, s := range []*station{from, to} {
			require.Empty(t, s.drops())
		}
		require.False(t, slices.ContainsFunc(n.sw().Addresses(), func(a vswitch.Address) bool { return a.Port == "moving" }))

		// A vNIC is where it was put.
		moving.mac = moving.vnic.MAC()
		for _, where := range []struct {
			vsid overlay.VSID
			hear []*station
		}{{5001, []*station{from, to}}, {6001, []*station{blueVM}}, {0, []*station{plain, n.wire}}} {
			moving.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = where.vsid })
			moving.send(ports.Broadcast, "hello")
			for _, s := range []*station{from, to, blueVM, plain, n.wire} {
				if slices.Contains(where.hear, s) {
					require.Equal(t, []string{"hello"}, s.got())
				} else {
					require.Empty(t, s.got())
				}
			}
			where.hear[0].send(moving.mac, "to you")
			require.Equal(t, []string{"to you"}, moving.got())
			for _, s := range []*station{from, to, blueVM, plain, n.wire} {
				s.got()
			}
		}
	})
}

func TestLearnedCustomerAddressesAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.apply(overlay.Change{Subnet: &overlay.Subnet{VSID: 5001, RDID: red, Learning: true}})
		a := n.guest("a", vswitch.VNICConfig{Switch: "lab", VSID: 5001})
		c.apply(overlay.Change{Record: &overlay.LookupRecord{VSID: 5001, MAC: a.mac, PA: n.pa, Type: overlay.L2Only}})
		a.sendRaw(arp(a, 1, a.mac, addr("10.0.0.50"), addr("10.0.0.50")))
		n.settle()
		require.Len(t, slices.Collect(n.engine.Learned()), 1)
		time.Sleep(9 * time.Minute)
		require.Len(t, slices.Collect(n.engine.Learned()), 1)
		time.Sleep(2 * time.Minute)
		require.Empty(t, slices.Collect(n.engine.Learned()))
	})
}

func TestTheUplinkOfAnOverlayChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		peer := &member{&station{mac: stranger(1)}, 5001, addr("10.0.0.12")}
		c.record(5001, peer.mac, peer.ca, 1)
		c.newNode(0) // whose provider address is known then
		c.introduce(0)
		wires := []*station{n.wire, n.nic("eth1")}
		for i, name := range []string{"eth0", "eth1", "eth0"} {
			n.reconfigure(func(c *vswitch.SwitchConfig) { c.Uplink = name })
			used, idle := wires[i%2], wires[1-i%2]
			a.says(peer, "hello")
			require.Len(t, used.received(), 1)
			require.Empty(t, idle.received())
			in := n.tunnel(t, paOf(2), 5001, packet(a.mac, peer.mac, peer.ca, a.ca, "back"))
			used.sendRaw(in)
			require.Equal(t, []string{"back"}, a.hears())
		}
		require.NoError(t, a.vnic.Close())
		n.reconfigure(func(c *vswitch.SwitchConfig) { c.Type, c.Uplink, c.Overlay = vswitch.Internal, "", nil })
		n.reconfigure(func(c *vswitch.SwitchConfig) { c.Type, c.Uplink, c.Overlay = vswitch.External, "eth0", n.engine })
		b := c.vm(0, "b", 5001, "10.0.0.13")
		wires[0].received()
		b.says(peer, "hello")
		require.Len(t, wires[0].received(), 1)
	})
}

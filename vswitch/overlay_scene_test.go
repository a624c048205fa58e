package vswitch_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// cloud is hosts on one provider network, each a lab with an external switch "lab" that has an overlay.
type cloud struct {
	t     *testing.T
	nodes []*node
}

type node struct {
	*lab
	engine *overlay.Engine
	pa     netip.Addr
	mac    ports.MAC // of the provider address
	wire   *station  // nil when the uplink leads to another node
}

var red, blue = overlay.RDID{0xed}, overlay.RDID{0xb1}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// newCloud is two hosts whose uplinks are the ends of one cable.
func newCloud(t *testing.T) *cloud { return newCloudOn(t, ports.PipeConfig{}, 0) }

func newCloudOn(t *testing.T, cable ports.PipeConfig, vlan uint16) *cloud {
	c := &cloud{t: t}
	a, b, err := ports.Pipe(&cable)
	require.NoError(t, err)
	for _, end := range []*ports.PipeEnd{a, b} {
		n := c.newNode(vlan)
		_, err := n.host.AddNIC("eth0", end)
		require.NoError(t, err)
		n.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", Overlay: n.engine})
	}
	return c
}

// wiredNode is a host whose wire is in the hands of the test.
func wiredNode(t *testing.T, vlan uint16) (*cloud, *node) {
	c := &cloud{t: t}
	n := c.newNode(vlan)
	n.wire = n.nic("eth0")
	n.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", Overlay: n.engine})
	return c, n
}

// newNode is a host with an engine, and no switch yet.
func (c *cloud) newNode(vlan uint16) *node {
	n := &node{lab: newLab(c.t), pa: paOf(len(c.nodes) + 1), mac: ports.MAC{0x0e, 0, 0, 0, 0, byte(len(c.nodes) + 1)}}
	var err error
	n.engine, err = overlay.NewEngine(&overlay.Config{
		Addresses: []overlay.ProviderAddress{{Address: netip.PrefixFrom(n.pa, 24), MAC: n.mac, VLAN: vlan}},
	})
	require.NoError(c.t, err)
	c.nodes = append(c.nodes, n)
	return n
}

func paOf(host int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(host)}) }

// apply makes changes on all hosts.
func (c *cloud) apply(changes ...overlay.Change) {
	c.t.Helper()
	for _, n := range c.nodes {
		require.NoError(c.t, n.engine.Apply(changes))
	}
}

func (c *cloud) subnet(rdid overlay.RDID, vsid overlay.VSID, prefix string) {
	c.t.Helper()
	c.apply(overlay.Change{Subnet: &overlay.Subnet{VSID: vsid, RDID: rdid}},
		overlay.Change{Route: &overlay.CustomerRoute{RDID: rdid, VSID: vsid, Destination: netip.MustParsePrefix(prefix)}})
}

// record says where a VM is.
func (c *cloud) record(vsid overlay.VSID, mac ports.MAC, ca netip.Addr, host int) {
	c.t.Helper()
	c.apply(overlay.Change{Record: &overlay.LookupRecord{VSID: vsid, CA: ca, MAC: mac, PA: paOf(host + 1)}})
}

// member is a VM in a virtual subnet.
type member struct {
	*station
	vsid overlay.VSID
	ca   netip.Addr
}

func (c *cloud) vm(host int, name string, vsid overlay.VSID, ca string) *member {
	c.t.Helper()
	return c.vmWith(host, name, ca, ports.PipeConfig{}, vswitch.VNICConfig{VSID: vsid})
}

func (c *cloud) vmWith(host int, name, ca string, p ports.PipeConfig, cfg vswitch.VNICConfig) *member {
	c.t.Helper()
	cfg.Switch = "lab"
	if cfg.MAC.IsZero() {
		cfg.MAC = macOf(cfg.VSID, addr(ca))
	}
	s := c.nodes[host].guestOn(p, name, cfg)
	c.record(cfg.VSID, s.mac, addr(ca), host)
	return &member{s, cfg.VSID, addr(ca)}
}

// macOf is a MAC address made from what tells VMs apart.
func macOf(vsid overlay.VSID, ca netip.Addr) ports.MAC {
	a := ca.As4()
	return ports.MAC{2, byte(vsid >> 8), byte(vsid), a[1], a[2], a[3]}
}

func routerMAC(vsid overlay.VSID) ports.MAC {
	return ports.MAC{0x02, 0x76, 0x73, byte(vsid >> 16), byte(vsid >> 8), byte(vsid)}
}

// packet is a datagram from one address to another, with a text in it.
func packet(dst, src ports.MAC, from, to netip.Addr, text string) []byte {
	b := append(dst[:], src[:]...)
	b = append(b, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[16:], uint16(28+len(text)))
	binary.BigEndian.PutUint16(b[24:], ^onesSum(0, b[14:34]))
	b = append(b, 0x12, 0x34, 0x45, 0x67, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[38:], uint16(8+len(text)))
	return append(b, text...)
}

// says sends a text to another VM: to its MAC address in the same subnet, and to the router otherwise.
func (v *member) says(to *member, text string) {
	v.lab.t.Helper()
	dst := to.mac
	if to.vsid != v.vsid {
		dst = routerMAC(v.vsid)
	}
	v.sendRaw(packet(dst, v.mac, v.ca, to.ca, text))
}

// hears returns the texts that have arrived since the last call; what is no datagram as its bytes.
func (v *member) hears() (texts []string) {
	for _, f := range v.received() {
		texts = append(texts, spoken(f))
	}
	return texts
}

func spoken(f *ports.Frame) string {
	wire := make([]byte, f.WireLen())
	f.CopyTo(wire)
	if len(wire) > 42 && wire[12] == 8 && wire[13] == 0 && wire[23] == 17 {
		return string(wire[42:])
	}
	return fmt.Sprintf("%x", wire)
}

// meet makes hosts know each other: the first packet between two of them only asks for the way.
func (c *cloud) meet(all ...*member) {
	c.t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b && (a.vsid == b.vsid) {
				a.says(b, "first")
				a.lab.settle()
			}
		}
	}
	for _, a := range all {
		a.hears()
	}
}

// tunnel encapsulates a frame as another host would.
func (n *node) tunnel(t *testing.T, src netip.Addr, vsid overlay.VSID, frame []byte) []byte {
	t.Helper()
	tun, err := overlay.NewTunnel(&overlay.TunnelConfig{Src: src, Dst: n.pa, SrcMAC: stranger(9), DstMAC: n.mac})
	require.NoError(t, err)
	f := new(ports.Frame)
	f.SetHead(append(make([]byte, ports.Headroom), frame...), ports.Headroom, len(frame))
	require.NoError(t, tun.Encap(f, vsid))
	wire := make([]byte, f.WireLen())
	f.CopyTo(wire)
	return wire
}

// setAddrs gives a segment of tcp4, whose checksum is that of the pseudo header, other addresses.
func setAddrs(b []byte, from, to [4]byte) {
	copy(b[26:], from[:])
	copy(b[30:], to[:])
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], ^onesSum(0, b[14:34]))
	binary.BigEndian.PutUint16(b[50:], onesSum(uint32(6+len(b)-34), b[26:34]))
}

// introduce makes the hosts know each other's provider addresses, in a VLAN, without a frame on the wire.
func (c *cloud) introduce(vlan uint16) {
	c.t.Helper()
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			reply := append(append(a.mac[:], b.mac[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
			reply = append(append(reply, b.mac[:]...), b.pa.AsSlice()...)
			reply = append(append(reply, a.mac[:]...), a.pa.AsSlice()...)
			f := newFrame(reply)
			if vlan != 0 {
				f.VLAN = ports.Tag{TPID: tpidQ, TCI: vlan}
			}
			a.engine.NewWorker().Inbound(0, []*ports.Frame{f})
		}
	}
}

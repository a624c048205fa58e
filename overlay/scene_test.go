package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// scene is several hosts on one provider network.
type scene struct {
	t       testing.TB
	hosts   []*labHost
	now     time.Duration
	policy  []Change
	dropped map[Drop]int
	wire    []*ports.Frame // what crossed the provider network
}

type labHost struct {
	e   *Engine
	w   *Worker
	pa  netip.Addr
	mac ports.MAC
}

// delivery is a frame that a vNIC got.
type delivery struct {
	host int
	port int
	data []byte
}

func (d delivery) String() string { return fmt.Sprintf("host %d port %d: %x", d.host, d.port, d.data) }

func newScene(t testing.TB, hosts int) *scene {
	s := &scene{t: t, dropped: map[Drop]int{}, now: time.Hour}
	for i := range hosts {
		s.addHost(netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 24))
	}
	return s
}

func (s *scene) addHost(pa netip.Prefix) {
	m := ports.MAC{2, 0xaa, 0, 0, 0, byte(len(s.hosts) + 1)}
	e, err := NewEngine(&Config{Addresses: []ProviderAddress{{Address: pa, MAC: m}}})
	require.NoError(s.t, err)
	s.hosts = append(s.hosts, &labHost{e, e.NewWorker(), pa.Addr(), m})
}

// apply makes changes on all hosts.
func (s *scene) apply(changes ...Change) {
	s.policy = append(s.policy, changes...)
	for _, h := range s.hosts {
		require.NoError(s.t, h.e.Apply(changes))
	}
}

var red, blue = RDID{0xed}, RDID{0xb1}

func (s *scene) subnet(rdid RDID, vsid VSID, prefixes ...string) {
	s.apply(Change{Subnet: &Subnet{VSID: vsid, RDID: rdid}})
	for _, p := range prefixes {
		s.apply(Change{Route: &CustomerRoute{RDID: rdid, VSID: vsid, Destination: prefix(p)}})
	}
}

// vm adds records for a VM on a host, and its port.
func (s *scene) vm(host, id int, vsid VSID, m ports.MAC, cas ...string) *Port {
	for _, a := range cas {
		s.apply(Change{Record: &LookupRecord{VSID: vsid, CA: addr(a), MAC: m, PA: s.hosts[host].pa}})
	}
	return s.port(host, id, vsid, m)
}

func (s *scene) port(host, id int, vsid VSID, m ports.MAC) *Port {
	p, err := s.hosts[host].e.AddPort(PortConfig{ID: id, VSID: vsid, MAC: m})
	require.NoError(s.t, err)
	return p
}

// send sends a frame of a port and returns what all vNICs get in the end. Next hops are resolved before.
func (s *scene) send(host int, p *Port, f *ports.Frame) []delivery {
	s.t.Helper()
	for range 2 {
		unresolved := s.dropped[DropUnresolved]
		g := new(ports.Frame)
		g.CopyFrom(f)
		got := s.settle(host, s.hosts[host].w.Outbound(s.now, p, []*ports.Frame{g}))
		if s.dropped[DropUnresolved] == unresolved {
			return got
		}
	}
	require.Fail(s.t, "next hop is not resolved")
	return nil
}

// settle carries outputs of a host, and what comes of them, to their ends.
func (s *scene) settle(host int, out []Output) (got []delivery) {
	s.t.Helper()
	type crossing struct {
		from int
		f    *ports.Frame
	}
	var queue []crossing
	take := func(host int, out []Output) {
		for _, o := range out {
			require.NotNil(s.t, o.Frame)
			switch {
			case o.Drop != 0:
				s.dropped[o.Drop]++
			case o.Port != nil:
				got = append(got, delivery{host, o.Port.ID, wire(o.Frame)})
			default:
				f := new(ports.Frame)
				f.CopyFrom(o.Frame)
				queue = append(queue, crossing{host, f})
				s.wire = append(s.wire, f)
			}
		}
	}
	take(host, out)
	for n := 0; len(queue) > 0; n++ {
		require.Less(s.t, n, 1000, "a loop")
		c := queue[0]
		queue = queue[1:]
		dst := ports.MAC(c.f.Head())
		for i, h := range s.hosts {
			if i != c.from && (dst.IsGroup() || dst == h.mac) {
				g := new(ports.Frame)
				g.CopyFrom(c.f)
				take(i, h.w.Inbound(s.now, []*ports.Frame{g}))
			}
		}
	}
	return got
}

// drops returns how many frames are dropped for a reason while do runs.
func (s *scene) drops(d Drop, do func()) int {
	n := s.dropped[d]
	do()
	return s.dropped[d] - n
}

// arp is an ARP packet.
func arp(op byte, sha ports.MAC, spa string, tha ports.MAC, tpa string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, op}
	b = append(b, sha[:]...)
	b = append(b, addr(spa).AsSlice()...)
	b = append(b, tha[:]...)
	return append(b, addr(tpa).AsSlice()...)
}

func arpFrame(dst, src ports.MAC, a []byte) packet {
	return packet{dst: dst, src: src, etherType: 0x0806, l3: a}
}

func routerOfVSID(v VSID) ports.MAC { return (&Subnet{VSID: v}).routerMAC() }

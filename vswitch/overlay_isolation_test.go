package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// Tenants with the same addresses, guests that forge what they can, and a host that sends whatever it likes
// from its own provider address: no frame ends in a routing domain other than that of its sender.
func TestNoFrameCrossesARoutingDomain(t *testing.T) {
	rounds := 3000
	if hurried() {
		rounds = 500
	}
	for seed := range uint64(4) {
		inBubble(t, func(t *testing.T) {
			const providerVLAN = 9
			r := rand.New(rand.NewPCG(seed, 1))
			c := &cloud{t: t}
			for range 2 {
				n := c.newNode(providerVLAN)
				n.wire = n.nic("eth0")
				n.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", Overlay: n.engine})
			}
			type vm struct {
				*station
				domain string
				vsid   overlay.VSID
				ca     netip.Addr
			}
			domains := map[string]overlay.RDID{"red": red, "blue": blue, "green": {0x9e}}
			var vsids []overlay.VSID
			var vms []*vm
			for i, name := range []string{"red", "blue", "green"} {
				for k := range 2 {
					v := overlay.VSID(5000 + 1000*i + k)
					vsids = append(vsids, v)
					c.subnet(domains[name], v, fmt.Sprintf("10.0.%d.0/24", k))
					unknown := overlay.DropUnknown
					if r.IntN(3) == 0 {
						unknown = overlay.FloodUnknown
					}
					c.apply(overlay.Change{Subnet: &overlay.Subnet{VSID: v, RDID: domains[name], Learning: r.IntN(2) == 0, Unknown: unknown}})
					for m := range 3 {
						ca := netip.AddrFrom4([4]byte{10, 0, byte(k), byte(11 + m)})
						where := r.IntN(2)
						x := c.vmWith(where, fmt.Sprintf("%s%d%d", name, k, m), ca.String(), ports.PipeConfig{},
							vswitch.VNICConfig{VSID: v, AllowSpoofing: r.IntN(2) == 0})
						vms = append(vms, &vm{x.station, name, v, ca})
					}
				}
			}
			// The third host has VMs of green, and is not ours.
			c.record(7000, stranger(70), addr("10.0.0.70"), 2)
			c.record(7001, stranger(71), addr("10.0.1.71"), 2)
			for _, n := range c.nodes {
				for i, mode := range []vlan.Mode{vlan.Untagged(), vlan.Access(8), vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})} {
					name := fmt.Sprintf("vlan%d", i)
					if mode.Kind() == vlan.KindTrunk {
						var all vlan.Set
						all.AddRange(1, 8)
						mode = vlan.Trunk(0, all, &vlan.TrunkOptions{Untagged: true})
					}
					s := n.guest(name, vswitch.VNICConfig{Switch: "lab", VLAN: mode, AllowSpoofing: true})
					vms = append(vms, &vm{station: s, domain: "vlan", ca: addr("10.0.0.90")})
				}
			}
			c.introduce(providerVLAN)

			label := regexp.MustCompile(`<(red|blue|green|vlan)>`)
			delivered := map[string]int{}
			check := func() {
				for turn := 0; ; turn++ {
					require.Less(t, turn, 100, "frames go round in circles")
					busy := false
					for i, n := range c.nodes {
						for _, f := range n.wire.received() {
							busy = true
							c.nodes[1-i].wire.sendFrames(f)
						}
					}
					if !busy {
						break
					}
				}
				for _, v := range vms {
					for _, f := range v.received() {
						wire := make([]byte, f.WireLen())
						f.CopyTo(wire)
						for _, m := range label.FindAllSubmatch(wire, -1) {
							require.Equal(t, v.domain, string(m[1]), "%s got %x", v.end.Info().Name, wire)
							delivered[v.domain]++
						}
					}
				}
			}
			anyone := func() *vm { return vms[r.IntN(len(vms))] }
			inner := func(from *vm) []byte {
				dst, src := anyone().mac, from.mac
				switch r.IntN(6) {
				case 0:
					dst = ports.Broadcast
				case 1, 2:
					dst = routerMAC(vsids[r.IntN(len(vsids))])
				case 3:
					dst = routerMAC(from.vsid)
				}
				if r.IntN(4) == 0 {
					src = anyone().mac
				}
				ca, to := from.ca, anyone().ca
				if r.IntN(4) == 0 {
					ca = anyone().ca
				}
				if r.IntN(8) == 0 {
					to = addr("255.255.255.255")
				}
				return packet(dst, src, ca, to, "<"+from.domain+">")
			}
			for range rounds {
				from := anyone()
				var wire []byte
				switch r.IntN(8) {
				case 0: // encapsulated by a guest, for any host and subnet
					n := c.nodes[r.IntN(2)]
					wire = n.tunnel(t, paOf(1+r.IntN(4)), vsids[r.IntN(len(vsids))], inner(from))
				case 1:
					wire = tagged(inner(from), tpidQ, uint16(r.IntN(12)))
				case 2:
					wire = arp(from.station, uint16(1+r.IntN(2)), anyone().mac, anyone().ca, anyone().ca)
				default:
					wire = inner(from)
				}
				from.sendRaw(wire)

				// From the third host, or from one that nobody knows, with any VSID and any inner frame.
				n := c.nodes[r.IntN(2)]
				in := inner(&vm{station: &station{mac: stranger(70 + r.IntN(2))}, domain: "green", ca: anyone().ca})
				forged := n.tunnel(t, paOf(3+r.IntN(2)), vsids[r.IntN(len(vsids))], in)
				if r.IntN(10) == 0 {
					at := r.IntN(len(forged))
					forged[at] ^= 1 << r.IntN(8)
					if at >= 26 && at < 34 || bytes.Equal(forged[26:30], paOf(1).AsSlice()) || bytes.Equal(forged[26:30], paOf(2).AsSlice()) {
						continue // it may have become the provider address of a host, which nobody is to forge
					}
				}
				n.wire.sendRaw(tagged(forged, tpidQ, providerVLAN))
				check()
			}
			for _, domain := range []string{"red", "blue", "green", "vlan"} {
				require.NotZero(t, delivered[domain], "nobody in %s heard anything", domain)
			}
			t.Logf("seed %d: delivered %v", seed, delivered)
		})
	}
}

// A VM moves to another host while two others talk to it. Each datagram arrives once or not at all, and it
// is reached again.
func TestAVMMovesUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.subnet(red, 5002, "10.0.1.0/24")
		senders := []*member{c.vm(0, "near", 5001, "10.0.0.11"), c.vm(1, "far", 5001, "10.0.0.12"), c.vm(1, "routed", 5002, "10.0.1.13")}
		mac := ports.MAC{2, 0x77, 0, 0, 0, 1}
		cfg := vswitch.VNICConfig{VSID: 5001, MAC: mac}
		homes := []*member{c.vmWith(0, "mover0", "10.0.0.50", ports.PipeConfig{Depth: 1024}, cfg)}
		c.introduce(0)

		got := map[uint64]int{}
		last := map[byte]uint64{}
		hear := func() (n int) {
			for _, h := range homes {
				for _, f := range h.received() {
					text := spoken(f)
					if len(text) != 8 {
						continue
					}
					k := binary.BigEndian.Uint64([]byte(text))
					got[k]++
					require.Equal(t, 1, got[k], "datagram %x arrived twice", k)
					last[byte(k>>56)] = k
					n++
				}
			}
			return n
		}
		sent := uint64(0)
		talk := func() {
			for i, s := range senders {
				var text [8]byte
				binary.BigEndian.PutUint64(text[:], uint64(i)<<56|sent)
				s.says(&member{&station{mac: mac}, 5001, addr("10.0.0.50")}, string(text[:]))
			}
			sent++
		}
		talkFor := func(n int) {
			for range n {
				talk()
				time.Sleep(10 * time.Microsecond)
			}
		}
		talkFor(20)
		require.Equal(t, 60, hear())
		for round := range 6 {
			from, to := round%2, (round+1)%2
			steps := []func(){
				func() { require.NoError(t, homes[len(homes)-1].vnic.Close()) },
				func() { c.record(5001, mac, addr("10.0.0.50"), to) },
				func() {
					s := c.nodes[to].guestOn(ports.PipeConfig{Depth: 1024}, fmt.Sprintf("mover%d", round+1), vswitch.VNICConfig{Switch: "lab", VSID: 5001, MAC: mac})
					homes = append(homes, &member{s, 5001, addr("10.0.0.50")})
				},
			}
			if round%3 == 1 { // the new home is there before the record changes, and the old one goes last
				steps = []func(){steps[2], steps[1], func() { require.NoError(t, homes[len(homes)-2].vnic.Close()) }}
			}
			if round%3 == 2 { // hosts hear of it one after the other
				steps[1] = func() {
					r := &overlay.LookupRecord{VSID: 5001, CA: addr("10.0.0.50"), MAC: mac, PA: paOf(to + 1)}
					require.NoError(t, c.nodes[from].engine.Apply([]overlay.Change{{Record: r}}))
					talkFor(20)
					require.NoError(t, c.nodes[to].engine.Apply([]overlay.Change{{Record: r}}))
				}
			}
			for _, do := range steps {
				talkFor(10)
				talk() // is under way when it happens
				do()
			}
			c.nodes[0].settle()
			hear()
			before := len(got)
			talkFor(20)
			hear()
			require.Equal(t, before+60, len(got), "all arrive at the new home")
		}
		for i := range senders {
			require.Equal(t, uint64(i)<<56|(sent-1), last[byte(i)])
		}
	})
}

package overlay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// moved is a scene of three hosts in which a VM, mac(2) with 10.0.0.12, is on host 1, and then on host 2
// though nobody has told host 0, where mac(1) is.
type moved struct {
	*scene
	p     *Port // of mac(1)
	there *Port // of mac(2), once it has moved
	old   *Port
	rule  Encapsulation
}

func newMoved(t testing.TB, rule Encapsulation, pas ...string) *moved {
	s := &moved{scene: &scene{t: t, dropped: map[Drop]int{}, now: time.Hour}, rule: rule}
	for _, pa := range pas {
		s.addHost(prefix(pa))
	}
	s.subnet(red, 5001, "10.0.0.0/24")
	s.subnet(red, 5002, "10.0.1.0/24")
	s.p = s.put(0, 1, 5001, mac(1), "10.0.0.11")
	s.old = s.put(1, 2, 5001, mac(2), "10.0.0.12", "10.0.0.22")
	s.put(1, 3, 5002, mac(3), "10.0.1.13")
	s.send(0, s.p, s.frame())
	s.reply(1, s.old)
	return s
}

var v4PAs, v6PAs = []string{"192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"}, []string{"2001:db8::1/64", "2001:db8::2/64", "2001:db8::3/64"}

func (s *moved) put(host, id int, vsid VSID, m ports.MAC, cas ...string) *Port {
	for _, a := range cas {
		s.apply(s.record(host, vsid, m, a))
	}
	return s.port(host, id, vsid, m)
}

func (s *moved) record(host int, vsid VSID, m ports.MAC, a string) Change {
	return Change{Record: &LookupRecord{VSID: vsid, CA: addr(a), MAC: m, PA: s.hosts[host].pa, Rule: s.rule}}
}

// move moves the VM; those hosts are told.
func (s *moved) move(told ...int) {
	s.old.Close()
	s.there = s.port(2, 2, 5001, mac(2))
	for _, h := range told {
		require.NoError(s.t, s.hosts[h].e.Apply([]Change{s.record(2, 5001, mac(2), "10.0.0.12"), s.record(2, 5001, mac(2), "10.0.0.22")}))
	}
}

func (s *moved) frame() *ports.Frame { return udp(mac(2), "10.0.0.12").frame(s.t) }

func (s *moved) reply(host int, p *Port) []delivery {
	return s.send(host, p, packet{src: mac(2), dst: mac(1), from: addr("10.0.0.12"), to: addr("10.0.0.11"), payload: 3}.frame(s.t))
}

// where returns where host 0 believes the VM to be.
func (s *moved) where() string {
	a, ok := s.hosts[0].e.Lookup(5001, addr("10.0.0.12"))
	b, ok2 := s.hosts[0].e.Lookup(5001, addr("10.0.0.22"))
	require.True(s.t, ok == ok2 && a.PA == b.PA, "all addresses of the VM alike")
	if !ok {
		return "nowhere"
	}
	return a.PA.String()
}

func TestRedirect(t *testing.T) {
	for _, rule := range []Encapsulation{NVGRE, VXLAN, Geneve} {
		for _, pas := range [][]string{v4PAs, v6PAs} {
			t.Run(fmt.Sprintf("%s %s", rule, pas[0]), func(t *testing.T) {
				s := newMoved(t, rule, pas...)
				pa := func(i int) string { return s.hosts[i].pa.String() }
				s.move(1, 2)
				want := []delivery{{2, 2, wire(s.frame())}}
				require.Equal(t, 1, s.drops(DropControl, func() { require.Empty(t, s.send(0, s.p, s.frame())) }), "the first frame is lost")
				require.Equal(t, pa(2), s.where())
				require.Equal(t, want, s.send(0, s.p, s.frame()), "once")
				require.Len(t, s.reply(2, s.there), 1, "and it may answer from there")

				// It is forgotten after a while, and learned again.
				s.now += defaultLearnedAge
				s.hosts[0].e.Expire(s.now)
				require.Equal(t, pa(1), s.where())
				require.Empty(t, s.send(0, s.p, s.frame()))
				require.Equal(t, pa(2), s.where())

				// The policy has the last word.
				require.NoError(t, s.hosts[0].e.Apply([]Change{s.record(1, 5001, mac(2), "10.0.0.12"), s.record(1, 5001, mac(2), "10.0.0.22")}))
				require.Equal(t, pa(1), s.where())
				s.now += 2 * defaultLearnedAge
				require.Empty(t, s.send(0, s.p, s.frame()))
				require.Equal(t, pa(2), s.where())
				require.NoError(t, s.hosts[0].e.Apply([]Change{s.record(2, 5001, mac(2), "10.0.0.12"), s.record(2, 5001, mac(2), "10.0.0.22")}))
				s.now += 2 * defaultLearnedAge
				s.hosts[0].e.Expire(s.now)
				require.Equal(t, pa(2), s.where(), "nothing is brought back")
				require.NoError(t, s.hosts[0].e.Apply([]Change{
					{Record: s.record(2, 5001, mac(2), "10.0.0.12").Record, Delete: true}, {Record: s.record(2, 5001, mac(2), "10.0.0.22").Record, Delete: true},
				}))
				s.now += 2 * defaultLearnedAge
				s.hosts[0].e.Expire(s.now)
				require.Equal(t, "nowhere", s.where())
			})
		}
	}
}

// The bytes of a message are those of [MS-NVGREE], section 2.2.
// The new host of a VM gets the policy last, and sends who knows it already back to the old one.
func TestRedirectOfAHostThatKnowsLess(t *testing.T) {
	for _, routed := range []bool{false, true} {
		s := newMoved(t, NVGRE, v4PAs...)
		other := s.put(0, 9, 5002, mac(9), "10.0.1.19")
		s.put(2, 8, 5001, mac(8), "10.0.0.18")
		s.send(0, other, packet{src: mac(9), dst: routerOfVSID(5002), from: addr("10.0.1.19"), to: addr("10.0.0.18"), payload: 3}.frame(t))
		now := []Change{s.record(2, 5001, mac(2), "10.0.0.12"), s.record(2, 5001, mac(2), "10.0.0.22")}
		s.old.Close()
		require.NoError(t, s.hosts[0].e.Apply(now))
		require.Equal(t, 1, s.drops(DropControl, func() { s.send(0, s.p, s.frame()) }))
		require.Equal(t, s.hosts[1].pa.String(), s.where())

		s.move(2)
		f := packet{src: mac(2), dst: mac(1), from: addr("10.0.0.12"), to: addr("10.0.0.11"), payload: 3}
		if routed {
			f.dst, f.to = routerOfVSID(5001), addr("10.0.1.19")
		}
		s.send(2, s.there, f.frame(t)) // asks for the next hop
		s.send(2, s.there, f.frame(t))
		require.Equal(t, s.hosts[2].pa.String(), s.where(), "as the policy says, since it is heard from there")
		require.Len(t, s.send(2, s.there, f.frame(t)), 1)
		require.Len(t, s.send(0, s.p, s.frame()), 1)
	}
}

func TestRedirectMessage(t *testing.T) {
	message := func(pas []string, told ...int) []byte {
		s := newMoved(t, NVGRE, pas...)
		s.move(told...)
		if len(told) == 0 {
			require.NoError(t, s.hosts[1].e.Replace(nil))
		}
		s.wire = nil
		s.send(0, s.p, s.frame())
		require.Len(t, s.wire, 2)
		sent, b := wire(s.wire[0]), wire(s.wire[1])
		l4 := 34
		if len(pas[0]) > 12 {
			l4 = 54
		}
		n := 2*l4 + 8 + 8
		if b[n-8] == redirect6 {
			n += redirectLen
		}
		require.Greater(t, len(b)-n, l4+8+14)
		require.True(t, bytes.HasPrefix(sent[14:], b[n:]), "it quotes what it is about")
		return b[:n]
	}
	host := func(i byte) string { return string([]byte{2, 0xaa, 0, 0, 0, i}) }
	gre := "\x20\x00\x65\x58\x00\x13\x89\x00"
	b := message(v4PAs, 1, 2)
	require.Equal(t, host(1)+host(2)+"\x08\x00\x45\x00", string(b[:16]))
	require.Equal(t, "\x40\x00\x80\x2f", string(b[20:24]), "TTL 128")
	require.Equal(t, "\xc0\x00\x02\x02\xc0\x00\x02\x01"+gre, string(b[26:42]))
	require.Equal(t, host(1)+host(2)+"\x08\x00\x45\x00", string(b[42:58]))
	require.Equal(t, "\x80\x01", string(b[64:66]))
	require.Equal(t, "\xc0\x00\x02\x02\xc0\x00\x02\x03", string(b[68:76]), "from the old place, to the new one")
	require.Equal(t, "\x05\x0a", string(b[76:78]))
	require.Equal(t, "\xc0\x00\x02\x03", string(b[80:84]))
	b = message(v4PAs)
	require.Equal(t, "\x03\x0a", string(b[76:78]))
	require.Equal(t, "\xc0\x00\x02\x02\xc0\x00\x02\x01", string(b[68:76]))
	require.Equal(t, "\x00\x00\x00\x00", string(b[80:84]))
	b = message(v6PAs, 1, 2)
	require.Equal(t, "\x2f\x80", string(b[20:22]), "hop limit 128")
	require.Equal(t, gre, string(b[54:62]))
	require.Equal(t, "\x3a\x80", string(b[82:84]))
	require.Equal(t, addr("2001:db8::3").AsSlice(), b[100:116])
	require.Equal(t, "\x89\x01", string(b[116:118]))
	require.Equal(t, slices.Concat(addr("2001:db8::3").AsSlice(), addr("2001:db8::2").AsSlice()), b[124:156])
	require.Equal(t, []byte{4, 12}, b[156:158], "the frame is shorter than a head")
	b = message(v6PAs)
	require.Equal(t, addr("2001:db8::1").AsSlice(), b[100:116])
	require.Equal(t, "\x01\x01", string(b[116:118]))
}

func TestUnreachable(t *testing.T) {
	s := newMoved(t, NVGRE, v4PAs...)
	s.move()
	// The old host knows the subnet still, but nothing of the VM.
	for _, a := range []string{"10.0.0.12", "10.0.0.22"} {
		require.NoError(t, s.hosts[1].e.Apply([]Change{{Record: s.record(1, 5001, mac(2), a).Record, Delete: true}}))
	}
	require.Empty(t, s.send(0, s.p, s.frame()))
	require.Equal(t, "nowhere", s.where())
	require.Equal(t, 1, s.drops(DropNoRecord, func() { s.send(0, s.p, s.frame()) }))
	s.now += unreachableAge
	s.hosts[0].e.Expire(s.now)
	require.Equal(t, "192.0.2.2", s.where(), "it is tried again")

	// The old host has left the virtual network altogether.
	require.NoError(t, s.hosts[1].e.Replace(nil))
	require.Empty(t, s.send(0, s.p, s.frame()))
	require.Equal(t, "nowhere", s.where())
	require.NoError(t, s.hosts[0].e.Apply([]Change{s.record(2, 5001, mac(2), "10.0.0.12")}))
	s.now += unreachableAge
	s.hosts[0].e.Expire(s.now)
	a, _ := s.hosts[0].e.Lookup(5001, addr("10.0.0.12"))
	require.Equal(t, s.hosts[2].pa, a.PA)
}

// A redirect that leads to a host that knows nothing is taken back.
func TestUnreachableAfterRedirect(t *testing.T) {
	s := newMoved(t, NVGRE, v4PAs...)
	s.move(1)
	s.there.Close()
	require.NoError(t, s.hosts[2].e.Replace(nil))
	s.send(0, s.p, s.frame())
	require.Equal(t, "192.0.2.3", s.where())
	s.now += time.Second
	s.send(0, s.p, s.frame())
	require.Equal(t, "192.0.2.2", s.where())
	s.now += 2 * defaultLearnedAge
	s.hosts[0].e.Expire(s.now)
	require.Equal(t, "192.0.2.2", s.where())
}

// Hosts that cannot be meant say nothing.
func TestWhoDoesNotRedirect(t *testing.T) {
	quiet := func(s *moved, f *ports.Frame) {
		t.Helper()
		s.wire = nil
		s.send(0, s.p, f)
		require.Len(t, s.wire, 1)
		require.Equal(t, "192.0.2.2", s.where())
	}
	s := newMoved(t, NVGRE, v4PAs...)
	s.old.Close()
	quiet(s, s.frame()) // the records say that the VM is here: it is to come

	s = newMoved(t, NVGRE, v4PAs...)
	s.move(1, 2)
	c := s.hosts[1].e.Config()
	c.NoRedirects = true
	require.NoError(t, s.hosts[1].e.SetConfig(&c))
	quiet(s, s.frame())

	s = newMoved(t, NVGRE, v4PAs...)
	require.NoError(t, s.hosts[1].e.Replace(nil)) // its policy is not there yet, but the VM is
	quiet(s, s.frame())

	s = newMoved(t, NVGRE, v4PAs...)
	s.move(1, 2)
	c = s.hosts[0].e.Config()
	c.NoRedirects = true
	require.NoError(t, s.hosts[0].e.SetConfig(&c))
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(0, s.p, s.frame()) }), "who is not to obey does not")
	require.Equal(t, "192.0.2.2", s.where())
}

// controlOf returns a message that host 1 sends to host 0 in the scene, as it crosses the network.
func controlOf(t testing.TB) (*moved, []byte) {
	s := newMoved(t, NVGRE, v4PAs...)
	s.move(1, 2)
	limit := &s.hosts[0].e.obeyed[tellerOf(s.hosts[1].pa)].full
	limit.Store(int64(s.now) + int64(time.Hour)) // it is not to be obeyed now
	s.wire = nil
	s.send(0, s.p, s.frame())
	require.Len(t, s.wire, 2)
	require.Equal(t, "192.0.2.2", s.where())
	limit.Store(0)
	return s, wire(s.wire[1])
}

// resumControl makes all checksums of a message right.
func resumControl(b []byte) []byte {
	sum := func(at int, part []byte) {
		binary.BigEndian.PutUint16(b[at:], 0)
		binary.BigEndian.PutUint16(b[at:], slowSum(part))
	}
	sum(24, b[14:34])
	sum(66, b[56:76])
	sum(78, b[76:])
	return b
}

func TestForgedRedirects(t *testing.T) {
	s, good := controlOf(t)
	try := func(b []byte) Drop {
		out := s.hosts[0].w.Inbound(s.now, []*ports.Frame{frameOf(b)})
		return out[0].Drop
	}
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   Drop
	}{
		{"from a host that the VM is not on", func(b []byte) { b[29] = 3 }, 0},
		{"from such a host, inside too", func(b []byte) { b[29], b[71] = 3, 3 }, DropSource},
		{"inside of somebody else", func(b []byte) { b[71] = 3 }, 0},
		{"in another subnet", func(b []byte) { b[40] = 0x8a }, DropSource},
		{"about another subnet", func(b []byte) { b[84+26] = 0x8a }, DropSource},
		{"about a VM on this host", func(b []byte) { b[84+28+5] = 1 }, DropSource},
		{"about a VM on a third host", func(b []byte) { b[84+28+5] = 9 }, DropSource},
		{"about what was sent to a third host", func(b []byte) { b[84+19] = 3 }, DropSource},
		{"about what a third host sent", func(b []byte) { b[84+15] = 3 }, DropSource},
		{"about something without a tunnel", func(b []byte) { b[84+9] = 6 }, DropSource},
		{"to a group", func(b []byte) { b[75], b[72] = 1, 224 }, DropSource},
		{"to nowhere", func(b []byte) { copy(b[72:], []byte{8, 8, 8, 8}) }, DropSource},
		{"as a fragment", func(b []byte) { b[62] = 0x20 }, 0},
		{"of another type", func(b []byte) { b[77] = 1 }, 0},
	} {
		b := slices.Clone(good)
		c.change(b)
		d := try(resumControl(b))
		require.NotEqual(t, DropControl, d, c.name)
		require.NotZero(t, d, c.name)
		if c.want != 0 {
			require.Equal(t, c.want, d, c.name)
		}
		require.Equal(t, "192.0.2.2", s.where(), c.name)
	}
	b := slices.Clone(good)
	b[90] ^= 1
	require.Equal(t, DropSource, try(b), "wrong checksum")
	for n := 42; n < len(good); n++ {
		b := slices.Clone(good[:n])
		binary.BigEndian.PutUint16(b[16:], uint16(n-14))
		if n >= 76 {
			binary.BigEndian.PutUint16(b[58:], uint16(n-56))
		}
		if n >= 84 {
			resumControl(b)
		}
		d := try(b)
		if n < 84+42 { // outer header, GRE and inner Ethernet header of what it is about
			require.NotEqual(t, DropControl, d, "%d bytes", n)
		}
	}
	s, good = controlOf(t)
	require.Equal(t, DropControl, try(good))
	require.Equal(t, "192.0.2.3", s.where())
	s.now += time.Second
	require.Equal(t, DropSource, try(good), "again: the VM is not on that host any more")
}

// Whatever is changed about a message, a host obeys it only if the host where the VM is sends it, and then
// moves nothing but that VM.
func TestNoForgedRedirectIsObeyed(t *testing.T) {
	s, good := controlOf(t)
	s.apply(s.record(2, 5001, mac(9), "10.0.0.19"))
	e := s.hosts[0].e
	all := func() map[netip.Addr]LookupRecord {
		m := map[netip.Addr]LookupRecord{}
		for r := range e.Records() {
			m[r.CA] = r
		}
		return m
	}
	before := all()
	rnd := rand.New(rand.NewPCG(1, 2))
	obeyed := 0
	for i := range 3000 {
		b := slices.Clone(good)
		for range 1 + rnd.IntN(3) {
			at := 14 + rnd.IntN(len(b)-14)
			switch rnd.IntN(3) {
			case 0:
				b[at] = byte(rnd.Uint32())
			case 1:
				b[at] = byte(rnd.IntN(12))
			default:
				b[at] ^= 1 << rnd.IntN(8)
			}
		}
		if rnd.IntN(4) > 0 {
			resumControl(b)
		}
		s.now += 10 * time.Millisecond
		was := all()
		out := s.hosts[0].w.Inbound(s.now, []*ports.Frame{frameOf(b)})
		is := all()
		if out[0].Drop != DropControl {
			require.Equal(t, was, is, "%d: %x", i, b)
			continue
		}
		obeyed++
		src := netip.AddrFrom4([4]byte(b[26:]))
		require.Equal(t, was[addr("10.0.0.12")].PA, src, "%d: %x", i, b)
		for a, r := range is {
			if r.MAC != mac(2) {
				require.Equal(t, was[a], r, "%d: %x", i, b)
			}
		}
		require.NoError(t, e.Replace(s.policy))
		require.Equal(t, before, all())
	}
	require.Greater(t, obeyed, 100)
	require.Less(t, obeyed, 2700)
}

// A VM cannot redirect, whatever its subnet lets it say.
func TestVMsCannotRedirect(t *testing.T) {
	s, good := controlOf(t)
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Unknown: FloodUnknown}},
		Change{Route: &CustomerRoute{RDID: red, VSID: 5001, Destination: prefix("192.0.2.0/25")}},
		Change{Record: &LookupRecord{VSID: 5001, CA: addr("0.0.0.0"), MAC: mac(7), PA: s.hosts[1].pa, Type: GatewayWildcard}})
	evil := s.port(1, 7, 5001, mac(7))
	for _, src := range []ports.MAC{mac(7), {2, 0xaa, 0, 0, 0, 2}, mac(0x77)} {
		for _, dst := range []ports.MAC{s.hosts[0].mac, mac(2), mac(0x99)} {
			b := slices.Clone(good[42:])
			copy(b, dst[:])
			copy(b[6:], src[:])
			require.Equal(t, 1, s.drops(DropSource, func() { require.Empty(t, s.send(1, evil, frameOf(b))) }), "%s %s", src, dst)
			require.Equal(t, "192.0.2.2", s.where())
		}
	}
	// What VMs tell each other passes: a prohibited host has the same type and code.
	p := packet{src: mac(1), dst: mac(7), from: addr("10.0.0.11"), to: addr("10.0.0.17"), proto: 1, icmp: []byte{3, 10, 0, 0, 0, 0, 0, 0}, payload: 40}
	require.Len(t, s.send(0, s.p, p.frame(t)), 1)
}

func TestRedirectsAreLimited(t *testing.T) {
	s := newMoved(t, NVGRE, v4PAs...)
	s.move(1, 2)
	c := s.hosts[0].e.Config()
	c.NoRedirects = true // so that it goes on
	require.NoError(t, s.hosts[0].e.SetConfig(&c))
	s.send(0, s.p, s.frame())
	s.wire = nil
	const frames = 1000
	for range frames {
		s.send(0, s.p, s.frame())
	}
	require.InDelta(t, 50, len(s.wire)-frames, 1, "at once")
	s.now += time.Second
	s.wire = nil
	for range frames {
		s.send(0, s.p, s.frame())
	}
	require.InDelta(t, 50, len(s.wire)-frames, 1)
}

func FuzzControl(f *testing.F) {
	_, good := controlOf(f)
	f.Add(good[42:])
	f.Add(good[42:120])
	f.Add(good)
	six := newMoved(f, Geneve, v6PAs...)
	six.move(1, 2)
	six.send(0, six.p, six.frame())
	f.Add(wire(six.wire[len(six.wire)-1])[70:])
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := frameOf(b)
		var h header.Header
		h.Parse(fr.Head(), fr.Len())
		var d Decoder
		c, ok := d.readControl(fr, &h)
		if !ok {
			return
		}
		require.True(t, c.from.IsValid() && c.src.IsValid() && c.dst.IsValid())
		require.Equal(t, c.src.Is4(), c.dst.Is4())
		require.True(t, !c.to.IsValid() || c.to.Is4() == c.from.Is4())
		require.LessOrEqual(t, c.vsid, VSID(0xffffff))
	})
}

package vswitch_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// cabledLabs are two hosts, each with an external switch "lab"; a cable joins their uplinks.
func cabledLabs(t *testing.T) (one, two *lab) {
	a, b, err := ports.Pipe(&ports.PipeConfig{Name: "eth0", Depth: 4096})
	require.NoError(t, err)
	var labs []*lab
	for i, end := range []*ports.PipeEnd{a, b} {
		l := newLabWith(t, vswitch.HostConfig{MACPool: vswitch.MACRange{
			First: ports.MAC{2, 0, 0, byte(i), 0, 0}, Last: ports.MAC{2, 0, 0, byte(i), 0, 255},
		}})
		_, err := l.host.AddNIC("eth0", end)
		require.NoError(t, err)
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		labs = append(labs, l)
	}
	return labs[0], labs[1]
}

// member is a guest with a mode of its own.
func (l *lab) member(name string, m vlan.Mode) *station {
	l.t.Helper()
	return l.guestOn(ports.PipeConfig{Depth: 1024}, name, vswitch.VNICConfig{Switch: "lab", VLAN: m})
}

func ids(text string) vlan.Set { return vlan.MustParseSet(text) }

// pvlanMatrix is what private VLANs promise (RFC 5517): a row is who sends, a column who receives, x is what passes.
//
// Of primary VLAN 10: i isolated (20), a community 21, b community 22, p promiscuous to all of them,
// q promiscuous to 21 only. Ordinary ports: m has access to the primary VLAN, s to the isolated one,
// c to community 21; u is untagged, v in VLAN 99; t is a trunk of all four and 99, which has a row for
// each VLAN that it sends in. z is isolated in another private VLAN with the promiscuous y.
const pvlanMatrix = `
     i1 i2 a1 a2 b1 b2 p1 p2 q1 m1 m2 s1 s2 c1 u1 u2 v1 t1 z1 y1
i1   .  .  .  .  .  .  x  x  .  .  .  x  x  .  .  .  .  x  .  .
i2   .  .  .  .  .  .  x  x  .  .  .  x  x  .  .  .  .  x  .  .
a1   .  .  .  x  .  .  x  x  x  .  .  .  .  x  .  .  .  x  .  .
a2   .  .  x  .  .  .  x  x  x  .  .  .  .  x  .  .  .  x  .  .
b1   .  .  .  .  .  x  x  x  .  .  .  .  .  .  .  .  .  x  .  .
b2   .  .  .  .  x  .  x  x  .  .  .  .  .  .  .  .  .  x  .  .
p1   x  x  x  x  x  x  .  x  x  x  x  .  .  .  .  .  .  x  .  .
p2   x  x  x  x  x  x  x  .  x  x  x  .  .  .  .  .  .  x  .  .
q1   x  x  x  x  x  x  x  x  .  x  x  .  .  .  .  .  .  x  .  .
m1   x  x  x  x  x  x  x  x  x  .  x  .  .  .  .  .  .  x  .  .
m2   x  x  x  x  x  x  x  x  x  x  .  .  .  .  .  .  .  x  .  .
s1   .  .  .  .  .  .  x  x  .  .  .  .  x  .  .  .  .  x  .  .
s2   .  .  .  .  .  .  x  x  .  .  .  x  .  .  .  .  .  x  .  .
c1   .  .  x  x  .  .  x  x  x  .  .  .  .  .  .  .  .  x  .  .
u1   .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  x  .  .  .  .
u2   .  .  .  .  .  .  .  .  .  .  .  .  .  .  x  .  .  .  .  .
v1   .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  x  .  .
t10  x  x  x  x  x  x  x  x  x  x  x  .  .  .  .  .  .  .  .  .
t20  .  .  .  .  .  .  x  x  .  .  .  x  x  .  .  .  .  .  .  .
t21  .  .  x  x  .  .  x  x  x  .  .  .  .  x  .  .  .  .  .  .
t22  .  .  .  .  x  x  x  x  .  .  .  .  .  .  .  .  .  .  .  .
t99  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  x  .  .  .
z1   .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  x
y1   .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  x  .
`

var pvlanPorts = map[byte]vlan.Mode{
	'i': vlan.Isolated(10, 20), 'a': vlan.Community(10, 21), 'b': vlan.Community(10, 22),
	'p': vlan.Promiscuous(10, ids("20-22")), 'q': vlan.Promiscuous(10, ids("21")),
	'm': vlan.Access(10), 's': vlan.Access(20), 'c': vlan.Access(21),
	'u': vlan.Untagged(), 'v': vlan.Access(99), 't': vlan.Trunk(0, ids("10,20-22,99"), nil),
	'z': vlan.Isolated(11, 30), 'y': vlan.Promiscuous(11, ids("30")),
}

// pvlanRow is a row of the matrix.
type pvlanRow struct {
	name, from string
	tag        uint16 // with which the sender sends; 0 is none
	reaches    []string
}

func parsePVLANMatrix(t *testing.T) (columns []string, rows []pvlanRow) {
	lines := strings.Split(strings.TrimSpace(pvlanMatrix), "\n")
	columns = strings.Fields(lines[0])
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		require.Len(t, cells, len(columns)+1, line)
		r := pvlanRow{name: cells[0], from: cells[0]}
		if cells[0][0] == 't' {
			_, err := fmt.Sscanf(cells[0], "t%d", &r.tag)
			require.NoError(t, err)
			r.from = "t1"
		}
		for i, cell := range cells[1:] {
			if cell == "x" {
				r.reaches = append(r.reaches, columns[i])
			}
		}
		rows = append(rows, r)
	}
	return columns, rows
}

// pvlanVLANs says in which VLAN a kind of port sends: isolated and community ports in their secondary
// one, promiscuous ports in the primary one.
var pvlanVLANs = map[byte]uint16{
	'i': 20, 'a': 21, 'b': 22, 'p': 10, 'q': 10, 'm': 10, 's': 20, 'c': 21, 'v': 99, 'z': 30, 'y': 11,
}

func (r *pvlanRow) vlan() uint16 {
	if r.tag != 0 {
		return r.tag
	}
	return pvlanVLANs[r.from[0]]
}

// domain names who can know whose address: the ports of a private VLAN and those in its VLANs.
func (r *pvlanRow) domain() string {
	switch vid := r.vlan(); vid {
	case 10, 20, 21, 22:
		return "10"
	case 11, 30:
		return "11"
	default:
		return fmt.Sprint(vid)
	}
}

// cast are stations by name, wherever they are.
type cast map[string]*station

// send sends a text as one would on the wire.
func (c cast) send(from string, tag uint16, dst ports.MAC, text string) {
	s := c[from]
	b := frame(dst, s.mac, text)
	if tag != 0 {
		b = tagged(b, tpidQ, tag)
	}
	s.sendRaw(b)
}

// heard returns who got which texts since the last call, in the order of names.
func (c cast) heard() map[string][]string {
	heard := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		for _, text := range c[name].got() {
			heard[text] = append(heard[text], name)
		}
	}
	return heard
}

// requirePVLANMatrix sends from everyone to everyone, each address being known where it may be.
func requirePVLANMatrix(t *testing.T, c cast) {
	t.Helper()
	_, rows := parsePVLANMatrix(t)
	domains := map[string][]string{} // of stations
	for _, r := range rows {
		domains[r.from] = append(domains[r.from], r.domain())
		c.send(r.from, r.tag, ports.Broadcast, "here I am")
		c.heard()
	}
	for _, r := range rows {
		want := map[string][]string{}
		expect := func(text string, who []string) {
			for _, to := range who {
				seen := text
				if to[0] == 't' {
					seen = fmt.Sprintf("VLAN %d: %s", r.vlan(), text)
				}
				want[seen] = append(want[seen], to)
			}
		}
		c.send(r.from, r.tag, ports.Broadcast, "to all")
		expect("to all", r.reaches)
		c.send(r.from, r.tag, stranger(99), "to nobody")
		expect("to nobody", r.reaches)
		for to, s := range c {
			if to == r.from {
				continue
			}
			text := "to " + to
			c.send(r.from, r.tag, s.mac, text)
			switch {
			case slices.Contains(r.reaches, to):
				expect(text, []string{to})
			case !slices.Contains(domains[to], r.domain()):
				expect(text, r.reaches) // who is not known there
			}
		}
		got := c.heard()
		for text := range want {
			slices.Sort(want[text])
		}
		require.Equal(t, want, got, "row %s", r.name)
	}
}

func TestPrivateVLANMatrixOnOneSwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, _ := externalLab(t, 0)
		c := cast{}
		columns, rows := parsePVLANMatrix(t)
		for _, name := range columns {
			c[name] = l.member(name, pvlanPorts[name[0]])
		}
		requirePVLANMatrix(t, c)
		drain(wire)

		for _, r := range rows {
			c.send(r.from, r.tag, ports.Broadcast, "out")
			want := "out"
			if vid := r.vlan(); vid != 0 {
				want = fmt.Sprintf("VLAN %d: out", vid)
			}
			require.Equal(t, []string{want}, wire.got(), "what of %s is on the wire", r.name)
		}
	})
}

func TestPrivateVLANMatrixAcrossTwoHosts(t *testing.T) {
	columns, _ := parsePVLANMatrix(t)
	placings := map[string]func(i int, name string) bool{
		"ones here, twos there":   func(_ int, name string) bool { return name[1] == '1' },
		"promiscuous ports there": func(_ int, name string) bool { return name[0] != 'p' && name[0] != 'q' && name[0] != 'y' },
		"isolated ports there":    func(_ int, name string) bool { return name[0] != 'i' && name[0] != 'z' },
		"private ports here":      func(_ int, name string) bool { return strings.ContainsRune("iabpqzy", rune(name[0])) },
	}
	few := 6
	if hurried() {
		few = 2
	}
	for n := range few {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		toss := rng.Uint64()
		placings[fmt.Sprintf("by lot %d", n)] = func(i int, _ string) bool { return toss>>i&1 == 0 }
	}
	for name, here := range placings {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				one, two := cabledLabs(t)
				c := cast{}
				for i, name := range columns {
					l := two
					if here(i, name) {
						l = one
					}
					c[name] = l.member(name, pvlanPorts[name[0]])
				}
				// A switch knows that the VLANs belong together when one of its ports says so.
				for _, l := range []*lab{one, two} {
					l.member("knows 10", vlan.Promiscuous(10, ids("20-22")))
					l.member("knows 11", vlan.Promiscuous(11, ids("30")))
				}
				requirePVLANMatrix(t, c)
			})
		})
	}
}

func TestAPromiscuousPortHearsTheSecondariesItLists(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		c := cast{
			"i": l.member("i", vlan.Isolated(10, 20)),
			"a": l.member("a", vlan.Community(10, 21)),
			"p": l.member("p", vlan.Promiscuous(10, ids("20"))),
		}
		hears := func(who ...string) {
			t.Helper()
			c.send("p", 0, ports.Broadcast, "p")
			c.send("i", 0, ports.Broadcast, "i")
			c.send("a", 0, ports.Broadcast, "a")
			want := map[string][]string{"p": {"a", "i"}}
			for _, from := range who {
				want[from] = []string{"p"}
			}
			require.Equal(t, want, c.heard())
		}
		hears("i")
		c["p"].reconfigure(func(v *vswitch.VNICConfig) { v.VLAN = vlan.Promiscuous(10, ids("21")) })
		hears("a")
		c["p"].reconfigure(func(v *vswitch.VNICConfig) { v.VLAN = vlan.Promiscuous(10, ids("20-21")) })
		hears("a", "i")
	})
}

// party is the oracle's view of a port, in the words of RFC 5517.
type party struct {
	kind               vlan.Kind
	primary, secondary uint16          // of private ports
	lists              map[uint16]bool // secondaries of a promiscuous port
	native             uint16          // of other ports: what is untagged there, 0 being the untagged VLAN
	allowed            map[uint16]bool // tagged on a trunk
}

func (p *party) mode() vlan.Mode {
	set := func(m map[uint16]bool) (s vlan.Set) {
		for id := range m {
			if s.Add(id) != nil {
				panic("not an id")
			}
		}
		return s
	}
	switch p.kind {
	case vlan.KindIsolated:
		return vlan.Isolated(p.primary, p.secondary)
	case vlan.KindCommunity:
		return vlan.Community(p.primary, p.secondary)
	case vlan.KindPromiscuous:
		return vlan.Promiscuous(p.primary, set(p.lists))
	case vlan.KindAccess:
		return vlan.Access(p.native)
	case vlan.KindTrunk:
		return vlan.Trunk(p.native, set(p.allowed), nil)
	}
	return vlan.Untagged()
}

// sends returns the VLAN of what the port sends with a tag, 0 being none.
func (p *party) sends(tag uint16) uint16 {
	switch {
	case tag != 0:
		return tag
	case p.kind == vlan.KindIsolated || p.kind == vlan.KindCommunity:
		return p.secondary
	case p.kind == vlan.KindPromiscuous:
		return p.primary
	}
	return p.native
}

// tags returns the tags with which the port may send.
func (p *party) tags() []uint16 {
	l := slices.Sorted(maps.Keys(p.allowed))
	if p.kind != vlan.KindTrunk || p.native != 0 {
		l = append(l, 0)
	}
	return l
}

// reaches reports whether what p sends with a tag passes to o.
func (p *party) reaches(tag uint16, o *party) bool {
	if p.kind.Private() && o.kind.Private() && p.primary == o.primary {
		switch {
		case p.kind == vlan.KindPromiscuous:
			return true
		case o.kind == vlan.KindPromiscuous:
			return o.lists[p.secondary]
		}
		return p.kind == vlan.KindCommunity && o.kind == vlan.KindCommunity && p.secondary == o.secondary
	}
	switch vid := p.sends(tag); o.kind {
	case vlan.KindIsolated:
		return vid == o.primary
	case vlan.KindCommunity:
		return vid == o.primary || vid == o.secondary
	case vlan.KindPromiscuous:
		return vid == o.primary || o.lists[vid]
	case vlan.KindTrunk:
		return vid != 0 && (vid == o.native || o.allowed[vid])
	default:
		return vid == o.native
	}
}

// conflicts reports whether two ports may not be on one switch.
func (p *party) conflicts(o *party) bool {
	if !p.kind.Private() || !o.kind.Private() {
		return false
	}
	secondaries := func(p *party) map[uint16]bool {
		if p.kind == vlan.KindPromiscuous {
			return p.lists
		}
		return map[uint16]bool{p.secondary: true}
	}
	ps, os := secondaries(p), secondaries(o)
	if os[p.primary] || ps[o.primary] {
		return true // an id is both
	}
	for id := range ps {
		if !os[id] {
			continue
		}
		if p.primary != o.primary {
			return true
		}
		if p.kind != o.kind && p.kind != vlan.KindPromiscuous && o.kind != vlan.KindPromiscuous {
			return true
		}
	}
	return p.kind == vlan.KindIsolated && o.kind == vlan.KindIsolated &&
		p.primary == o.primary && p.secondary != o.secondary
}

// randomParty makes a port. Tame ones never conflict: the last digit of an id says what it is for.
func randomParty(rng *rand.Rand, tame bool) *party {
	pick := func(l ...uint16) uint16 { return l[rng.IntN(len(l))] }
	some := func(l ...uint16) map[uint16]bool {
		m := map[uint16]bool{pick(l...): true}
		for _, id := range l {
			if rng.IntN(3) == 0 {
				m[id] = true
			}
		}
		return m
	}
	all := []uint16{10, 11, 12, 20, 21, 22, 23}
	p := &party{kind: vlan.Kind(rng.IntN(6))}
	switch p.kind {
	case vlan.KindAccess:
		p.native = pick(all...)
	case vlan.KindTrunk:
		p.native, p.allowed = pick(append(all, 0, 0, 0)...), some(all...)
	case vlan.KindIsolated:
		p.primary, p.secondary = 10, 20
		if rng.IntN(3) == 0 {
			p.primary, p.secondary = 11, 23
		}
	case vlan.KindCommunity:
		p.primary, p.secondary = 10, pick(21, 22)
	case vlan.KindPromiscuous:
		p.primary, p.lists = 10, some(20, 21, 22)
		if rng.IntN(3) == 0 {
			p.primary, p.lists = 11, some(23)
		}
	}
	if !tame && p.kind.Private() && rng.IntN(2) == 0 {
		p.primary = pick(10, 11, 12, 20)
		switch p.kind {
		case vlan.KindPromiscuous:
			p.lists = some(20, 21, 22, 23, 10)
			delete(p.lists, p.primary)
			if len(p.lists) == 0 {
				p.lists[24] = true
			}
		default:
			for p.secondary = p.primary; p.secondary == p.primary; {
				p.secondary = pick(20, 21, 22, 23, 10)
			}
		}
	}
	return p
}

// requireLikeOracle sends from one port in every way it can and compares who gets it with the oracle. With
// exact, a unicast to a known address reaches nobody else.
func requireLikeOracle(t *testing.T, c cast, parties map[string]*party, from string, exact bool) {
	t.Helper()
	p := parties[from]
	for _, tag := range p.tags() {
		vid := p.sends(tag)
		var reached []string
		for _, to := range slices.Sorted(maps.Keys(parties)) {
			if to != from && p.reaches(tag, parties[to]) {
				reached = append(reached, to)
			}
		}
		c.send(from, tag, ports.Broadcast, "to all")
		c.send(from, tag, stranger(99), "to nobody")
		for to, s := range c {
			if to != from {
				c.send(from, tag, s.mac, "to "+to)
			}
		}
		heard := map[string][]string{}
		for text, who := range c.heard() {
			for _, name := range who {
				prefix := ""
				if o := parties[name]; o.kind == vlan.KindTrunk && vid != o.native {
					prefix = fmt.Sprintf("VLAN %d: ", vid)
				}
				plain, ok := strings.CutPrefix(text, prefix)
				require.True(t, ok && !strings.HasPrefix(plain, "VLAN"), "%s got %q from %s, sent in %d", name, text, from, vid)
				heard[plain] = append(heard[plain], name)
			}
		}
		for text := range heard {
			slices.Sort(heard[text])
		}
		who := func(text string) string {
			return fmt.Sprintf("%q from %s %v with tag %d, among %v", text, from, p.mode(), tag, modesOf(parties))
		}
		for _, text := range []string{"to all", "to nobody"} {
			require.Equal(t, reached, heard[text], who(text))
		}
		for to, o := range parties {
			if to == from {
				continue
			}
			text := "to " + to
			got := heard[text]
			require.Equal(t, slices.Contains(reached, to), slices.Contains(got, to), who(text))
			for _, other := range got {
				require.Contains(t, reached, other, who(text))
			}
			if exact && slices.Contains(reached, to) && o.kind != vlan.KindTrunk && known(parties, vid, o) {
				require.Equal(t, []string{to}, got, who(text))
			}
		}
	}
}

// known reports whether the address of o is configured where frames in vid are looked up: in one
// place for a primary VLAN and its secondaries, as the ports say what these are.
func known(parties map[string]*party, vid uint16, o *party) bool {
	place := func(vid uint16) uint16 {
		for _, p := range parties {
			if p.kind.Private() && (p.secondary == vid || p.lists[vid]) {
				return p.primary
			}
		}
		return vid
	}
	return place(vid) == place(o.sends(0))
}

func modesOf(parties map[string]*party) (l []string) {
	for _, name := range slices.Sorted(maps.Keys(parties)) {
		l = append(l, name+" "+parties[name].mode().String())
	}
	return l
}

func rounds(n int) int {
	if hurried() {
		return max(1, n/10)
	}
	return n
}

func TestAnyAssignmentsOnOneSwitchKeepToTheMatrix(t *testing.T) {
	for seed := range rounds(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(2, uint64(seed)))
				l, _ := privateLab(t, 0)
				c, parties := cast{}, map[string]*party{}
				for i := range 3 + rng.IntN(12) {
					name := fmt.Sprintf("vm%d", i)
					parties[name] = randomParty(rng, true)
					c[name] = l.member(name, parties[name].mode())
				}
				for range 2 { // trunks are learned meanwhile
					for from := range parties {
						requireLikeOracle(t, c, parties, from, true)
					}
				}
			})
		})
	}
}

func TestAnyAssignmentsOnTwoHostsKeepToTheMatrix(t *testing.T) {
	for seed := range rounds(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, uint64(seed)))
				one, two := cabledLabs(t)
				c, parties := cast{}, map[string]*party{}
				for i := range 3 + rng.IntN(12) {
					name := fmt.Sprintf("vm%d", i)
					parties[name] = randomParty(rng, true)
					c[name] = []*lab{one, two}[rng.IntN(2)].member(name, parties[name].mode())
				}
				for range 2 { // those on the other host are learned meanwhile
					for from := range parties {
						requireLikeOracle(t, c, parties, from, false)
					}
				}
			})
		})
	}
}

func TestAnyChangesOfAssignmentsKeepToTheMatrix(t *testing.T) {
	for seed := range rounds(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(4, uint64(seed)))
				l, _ := privateLab(t, 0)
				c, parties := cast{}, map[string]*party{}
				var names []string
				for i := range 8 {
					name := fmt.Sprintf("vm%d", i)
					names = append(names, name)
					parties[name] = &party{}
					c[name] = l.member(name, vlan.Untagged())
				}
				for range 40 {
					name := names[rng.IntN(len(names))]
					next := randomParty(rng, false)
					adversaries := []string{}
					for _, other := range names {
						if other != name && next.conflicts(parties[other]) {
							adversaries = append(adversaries, other)
						}
					}
					cfg := c[name].vnic.Config()
					cfg.VLAN = next.mode()
					err := c[name].vnic.SetConfig(cfg)
					if len(adversaries) == 0 {
						require.NoError(t, err, "%v for %s among %v", cfg.VLAN, name, modesOf(parties))
						parties[name] = next
					} else {
						require.ErrorIs(t, err, vswitch.ErrInvalid, "%v for %s among %v", cfg.VLAN, name, modesOf(parties))
						requireNamesOne(t, err, adversaries)
					}
					require.True(t, parties[name].mode().Equal(c[name].vnic.Config().VLAN))
					requireLikeOracle(t, c, parties, name, true)
					requireLikeOracle(t, c, parties, names[rng.IntN(len(names))], true)
				}
			})
		})
	}
}

// requireNamesOne checks that a refusal names a port that contradicts, and the switch.
func requireNamesOne(t *testing.T, err error, adversaries []string) {
	t.Helper()
	var conflict *vlan.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Contains(t, adversaries, conflict.Other)
	require.ErrorContains(t, err, `switch "lab"`)
	require.ErrorContains(t, err, fmt.Sprintf("port %q", conflict.Other))
}

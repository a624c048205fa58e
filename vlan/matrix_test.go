package vlan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

// bridge is a switch of the simplest kind, with a cable to another one at its trunk.
type bridge struct {
	ports map[string]vlan.Mode
	trunk vlan.Mode
	other *bridge

	assoc vlan.Associations
	table map[address]string // port, "" being the trunk
}

type address struct {
	fid uint16
	mac string
}

func newBridge(t *testing.T, ports map[string]vlan.Mode) *bridge {
	t.Helper()
	b := &bridge{ports: ports, table: map[address]string{}}
	_, err := b.assoc.Update(ports)
	require.NoError(t, err)
	return b
}

// connect joins two bridges.
func connect(trunk vlan.Mode, a, b *bridge) {
	a.trunk, b.trunk = trunk, trunk
	a.other, b.other = b, a
}

// broadcast is the address of everyone.
const broadcast = ""

// send has a station at a port send an untagged frame and returns the names of the ports it comes to;
// all of them must receive it untagged.
func (b *bridge) send(t *testing.T, port, to string) []string {
	t.Helper()
	f, drop := admit(b.ports[port], nil)
	require.Zero(t, drop)
	got := b.forward(t, port, f, port, to)
	slices.Sort(got)
	return got
}

func (b *bridge) forward(t *testing.T, from string, f inside, src, dst string) (got []string) {
	t.Helper()
	fid := b.assoc.FIDs().Of(f.vlan)
	b.table[address{fid, src}] = from
	var out []string
	if port, ok := b.table[address{fid, dst}]; ok {
		out = []string{port}
	} else {
		out = slices.Collect(maps.Keys(b.ports))
		if b.other != nil {
			out = append(out, "")
		}
	}
	for _, port := range out {
		switch {
		case port == from:
		case port == "":
			w, drop := deliver(b.trunk, f)
			if drop != 0 {
				continue
			}
			f, drop := admit(b.other.trunk, w)
			require.Zero(t, drop)
			got = append(got, b.other.forward(t, "", f, src, dst)...)
		default:
			w, drop := deliver(b.ports[port], f)
			if drop == 0 {
				require.Empty(t, w)
				got = append(got, port)
			}
		}
	}
	return got
}

// The matrix of private VLANs: a row is who sends, a column who receives; x is what passes.
// Isolated: i1, i2. Communities: a1, a2 and b1. Promiscuous: p1, p2. Of another private VLAN: ij, pj.
// Strangers: u is untagged, v in an ordinary VLAN.
const matrix = `
     i1 i2 a1 a2 b1 p1 p2 ij pj u  v
i1   -  .  .  .  .  x  x  .  .  .  .
i2   .  -  .  .  .  x  x  .  .  .  .
a1   .  .  -  x  .  x  x  .  .  .  .
a2   .  .  x  -  .  x  x  .  .  .  .
b1   .  .  .  .  -  x  x  .  .  .  .
p1   x  x  x  x  x  -  x  .  .  .  .
p2   x  x  x  x  x  x  -  .  .  .  .
ij   .  .  .  .  .  .  .  -  x  .  .
pj   .  .  .  .  .  .  .  x  -  .  .
u    .  .  .  .  .  .  .  .  .  -  .
v    .  .  .  .  .  .  .  .  .  .  -
`

func matrixPorts() map[string]vlan.Mode {
	return map[string]vlan.Mode{
		"i1": vlan.Isolated(10, 20), "i2": vlan.Isolated(10, 20),
		"a1": vlan.Community(10, 21), "a2": vlan.Community(10, 21), "b1": vlan.Community(10, 22),
		"p1": vlan.Promiscuous(10, set("20-22")), "p2": vlan.Promiscuous(10, set("20-22")),
		"ij": vlan.Isolated(11, 30), "pj": vlan.Promiscuous(11, set("30")),
		"u": vlan.Untagged(), "v": vlan.Access(99),
	}
}

// parseMatrix returns who reaches whom.
func parseMatrix(text string) map[string][]string {
	rows := strings.Split(strings.TrimSpace(text), "\n")
	columns := strings.Fields(rows[0])
	reaches := map[string][]string{}
	for _, row := range rows[1:] {
		cells := strings.Fields(row)
		reaches[cells[0]] = nil
		for i, cell := range cells[1:] {
			if cell == "x" {
				reaches[cells[0]] = append(reaches[cells[0]], columns[i])
			}
		}
		slices.Sort(reaches[cells[0]])
	}
	return reaches
}

// trunks are all the ways to join two switches that have the VLANs of the matrix.
func trunks() []vlan.Mode {
	return []vlan.Mode{
		vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true}),
		vlan.Trunk(0, vlan.AllIDs(), nil),
		vlan.Trunk(0, set("10-11,20-22,30,99"), nil),
		vlan.Trunk(1, vlan.AllIDs(), nil),
		vlan.Trunk(10, vlan.AllIDs(), nil),
		vlan.Trunk(20, vlan.AllIDs(), nil),
		vlan.Trunk(21, set("10-11,20,22,30"), nil),
		vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{QinQ: true}),
		vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{TPID: ad, Untagged: true}),
	}
}

func TestPrivateVLANMatrixOnOneSwitch(t *testing.T) {
	ports := matrixPorts()
	b := newBridge(t, ports)
	for from, want := range parseMatrix(matrix) {
		require.Equal(t, want, b.send(t, from, broadcast), "broadcast of %s", from)
	}
	for from, want := range parseMatrix(matrix) {
		for to := range ports {
			got := b.send(t, from, to)
			switch {
			case slices.Contains(want, to):
				require.Equal(t, []string{to}, got, "from %s to %s, whose address is known", from, to)
			case ports[from].Spec().Primary != 0 && ports[from].Spec().Primary == ports[to].Spec().Primary:
				require.Empty(t, got, "from %s to %s, whose address is known, but who must not get it", from, to)
			case from != to:
				require.Equal(t, want, got, "from %s to %s, who is unknown there", from, to)
			}
		}
	}
}

// Every port of the matrix is on one of two switches, in all the ways there are to place them.
func TestPrivateVLANMatrixAcrossTwoSwitches(t *testing.T) {
	ports := matrixPorts()
	names := slices.Sorted(maps.Keys(ports))
	trunks := trunks()
	for placing := range 1 << len(names) {
		here, there := map[string]vlan.Mode{}, map[string]vlan.Mode{}
		on := map[string]*bridge{}
		for i, name := range names {
			if placing>>i&1 == 0 {
				here[name] = ports[name]
			} else {
				there[name] = ports[name]
			}
		}
		left, right := newBridge(t, here), newBridge(t, there)
		trunk := trunks[placing%len(trunks)]
		connect(trunk, left, right)
		for name := range here {
			on[name] = left
		}
		for name := range there {
			on[name] = right
		}
		for from, want := range parseMatrix(matrix) {
			got := on[from].send(t, from, broadcast)
			if !slices.Equal(want, got) {
				t.Fatalf("broadcast of %s over %s reaches %v, want %v; left are %v", from, trunk, got, want, here)
			}
		}
		for from, want := range parseMatrix(matrix) {
			for to := range ports {
				got := on[from].send(t, from, to)
				if reached := slices.Contains(want, to); reached != slices.Contains(got, to) || reached && len(got) > 1 {
					t.Fatalf("from %s to %s over %s reaches %v; left are %v", from, to, trunk, got, here)
				}
			}
		}
	}
}

// What is on the trunk says who sent it: isolated and community ports their secondary VLAN, promiscuous
// ports the primary one.
func TestTheTrunkCarriesSecondaryIDsOfHostsAndThePrimaryOfPromiscuousPorts(t *testing.T) {
	uplink := vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})
	for from, vid := range map[string]uint16{"i1": 20, "a1": 21, "b1": 22, "p1": 10, "v": 99} {
		f, drop := admit(matrixPorts()[from], nil)
		require.Zero(t, drop)
		w, drop := deliver(uplink, f)
		require.Zero(t, drop)
		require.Equal(t, wire{{q, vid}}, w, from)
	}
}

// Ports of other modes in a VLAN that is primary or secondary are ordinary members of it: they receive
// what is sent in that VLAN, and what they send reaches whoever receives that VLAN.
func TestOrdinaryMembersOfPrivateVLANs(t *testing.T) {
	ports := matrixPorts()
	for _, name := range []string{"ij", "pj", "u", "v", "a2", "i2", "p2"} {
		delete(ports, name)
	}
	ports["in10"] = vlan.Access(10)
	ports["in20"] = vlan.Access(20)
	ports["in21"] = vlan.Access(21)
	ports["t"] = vlan.Trunk(20, set("1"), nil)
	want := parseMatrix(`
	     i1 a1 b1 p1 in10 in20 in21 t
	i1   -  .  .  x  .    x    .    x
	a1   .  -  .  x  .    .    x    .
	b1   .  .  -  x  .    .    .    .
	p1   x  x  x  -  x    .    .    .
	in10 x  x  x  x  -    .    .    .
	in20 .  .  .  x  .    -    .    x
	in21 .  x  .  x  .    .    -    .
	t    .  .  .  x  .    x    .    -
	`)
	b := newBridge(t, ports)
	for from := range ports {
		require.Equal(t, want[from], b.send(t, from, broadcast), from)
	}
}

// A promiscuous port does not hear secondary VLANs that it does not list, but is heard there.
func TestAPromiscuousPortHearsTheSecondariesItLists(t *testing.T) {
	b := newBridge(t, map[string]vlan.Mode{
		"listed": vlan.Community(10, 21), "other": vlan.Community(10, 22), "p": vlan.Promiscuous(10, set("21")),
	})
	require.Equal(t, []string{"p"}, b.send(t, "listed", broadcast))
	require.Empty(t, b.send(t, "other", broadcast))
	require.Equal(t, []string{"listed", "other"}, b.send(t, "p", broadcast))
}

// mayTalk says whether frames pass between ports of private VLANs, in the words of RFC 5517 and of
// Hyper-V, not in terms of ids on the wire.
func mayTalk(from, to vlan.Spec) bool {
	if from.Primary != to.Primary {
		return false
	}
	switch {
	case to.Kind == vlan.KindPromiscuous && from.Kind == vlan.KindPromiscuous:
		return true
	case to.Kind == vlan.KindPromiscuous:
		return to.Secondaries.Has(from.Secondary)
	case from.Kind == vlan.KindPromiscuous:
		return true
	case from.Kind == vlan.KindIsolated || to.Kind == vlan.KindIsolated:
		return false
	}
	return from.Secondary == to.Secondary
}

func TestRandomPrivateVLANsKeepTheMatrix(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	next := chance(r)
	for range 500 {
		// Consistent assignments: what contradicts the ports so far is left out.
		var all vlan.Associations
		ports := map[string]vlan.Mode{}
		for i := range 14 {
			m := next.mode()
			name := fmt.Sprintf("port%d", i)
			if !m.Kind().Private() {
				continue
			}
			if _, err := all.Update(map[string]vlan.Mode{name: m}); err == nil {
				ports[name] = m
			}
		}
		here, there := map[string]vlan.Mode{}, map[string]vlan.Mode{}
		for name, m := range ports {
			if r.IntN(2) == 0 {
				here[name] = m
			} else {
				there[name] = m
			}
		}
		left, right := newBridge(t, here), newBridge(t, there)
		connect(vlan.Trunk(next.id(), vlan.AllIDs(), nil), left, right)
		for _, b := range []*bridge{left, right} {
			for from := range b.ports {
				var want []string
				for to := range ports {
					if to != from && mayTalk(ports[from].Spec(), ports[to].Spec()) {
						want = append(want, to)
					}
				}
				slices.Sort(want)
				require.Equal(t, want, b.send(t, from, broadcast), "from %s among %v and %v", from, here, there)
			}
		}
		for _, b := range []*bridge{left, right} {
			for from := range b.ports {
				for to := range ports {
					got := b.send(t, from, to)
					want := to != from && mayTalk(ports[from].Spec(), ports[to].Spec())
					require.Equal(t, want, slices.Contains(got, to), "from %s to %s among %v and %v", from, to, here, there)
				}
			}
		}
	}
}

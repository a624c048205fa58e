package vlan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hvswitch/hvswitch/vlan"
)

// wire is a frame as it is on a cable: the values that stand behind its addresses, first to last. What
// has one of the two TPIDs is a tag; the first that has not is data.
type wire []wireTag

type wireTag struct{ tpid, tci uint16 }

func (w wire) tag(i int) (wireTag, bool) {
	for j := range min(i+1, len(w)) {
		if w[j].tpid != 0x8100 && w[j].tpid != 0x88a8 {
			return wireTag{}, false
		}
	}
	if i >= len(w) {
		return wireTag{}, false
	}
	return w[i], true
}

// inside is a frame within a switch: its VLAN, its priority bits, and the rest of it.
type inside struct {
	vlan, priority uint16
	rest           wire
}

// admit takes a frame from the wire as a switch does.
func admit(m vlan.Mode, w wire) (inside, vlan.Drop) {
	outer, tagged := w.tag(0)
	_, nested := w.tag(1)
	tci, drop := m.Admit(outer.tpid, outer.tci, nested)
	if tagged {
		w = w[1:]
	}
	return inside{tci % 4096, tci / 4096, w}, drop
}

// deliver puts a frame on the wire as a switch does.
func deliver(m vlan.Mode, f inside) (wire, vlan.Drop) {
	_, nested := f.rest.tag(0)
	tpid, tci, drop := m.Deliver(f.priority*4096+f.vlan, nested)
	if drop != 0 {
		return nil, drop
	}
	if tpid == 0 {
		return f.rest, 0
	}
	return append(wire{{tpid, tci}}, f.rest...), 0
}

// slowAdmit is admit as the specification says it, a sentence at a time.
func slowAdmit(s vlan.Spec, w wire) (inside, bool) {
	first, hasTag := w.tag(0)
	_, hasTwo := w.tag(1)
	if s.Kind == vlan.KindTrunk {
		own := uint16(0x8100)
		if s.QinQ {
			own = 0x88a8
		}
		if s.TPID != 0 {
			own = s.TPID
		}
		if !hasTag || hasTag && first.tpid == own && first.tci%4096 == 0 && !hasTwo {
			// Untagged, or a priority only.
			var f inside
			if hasTag {
				f.priority = first.tci / 4096
				w = w[1:]
			}
			f.rest = w
			f.vlan = s.Native
			return f, s.Native != 0 || s.Untagged
		}
		if hasTwo && !s.QinQ || first.tpid != own {
			return inside{}, false
		}
		allowed := slices.Contains(slices.Collect(s.Allowed.All()), first.tci%4096)
		return inside{first.tci % 4096, first.tci / 4096, w[1:]}, allowed
	}
	f := inside{rest: w}
	if hasTag {
		if hasTwo || first.tpid != 0x8100 || first.tci%4096 != 0 {
			return inside{}, false
		}
		f.priority = first.tci / 4096
		f.rest = w[1:]
	}
	switch s.Kind {
	case vlan.KindAccess:
		f.vlan = s.VLAN
	case vlan.KindIsolated, vlan.KindCommunity:
		f.vlan = s.Secondary
	case vlan.KindPromiscuous:
		f.vlan = s.Primary
	}
	return f, true
}

// slowDeliver is deliver as the specification says it.
func slowDeliver(s vlan.Spec, f inside) (wire, bool) {
	_, tagWithin := f.rest.tag(0)
	if s.Kind == vlan.KindTrunk {
		own := uint16(0x8100)
		if s.QinQ {
			own = 0x88a8
		}
		if s.TPID != 0 {
			own = s.TPID
		}
		native := f.vlan == s.Native
		if f.vlan == 0 {
			native = s.Untagged
		}
		if native && !tagWithin {
			return f.rest, true
		}
		if tagWithin && !s.QinQ {
			return nil, false
		}
		if !slices.Contains(slices.Collect(s.Allowed.All()), f.vlan) {
			return nil, false
		}
		return append(wire{{own, f.priority*4096 + f.vlan}}, f.rest...), true
	}
	var receives []uint16
	switch s.Kind {
	case vlan.KindUntagged:
		receives = []uint16{0}
	case vlan.KindAccess:
		receives = []uint16{s.VLAN}
	case vlan.KindIsolated:
		receives = []uint16{s.Primary}
	case vlan.KindCommunity:
		receives = []uint16{s.Primary, s.Secondary}
	case vlan.KindPromiscuous:
		receives = append(slices.Collect(s.Secondaries.All()), s.Primary)
	}
	return f.rest, slices.Contains(receives, f.vlan) && !tagWithin
}

// source gives numbers below n, of chance or of a fuzzer.
type source func(n int) int

func chance(r *rand.Rand) source { return func(n int) int { return r.IntN(n) } }

// bytesOf gives numbers from b, and zeros behind its end.
func bytesOf(b []byte) source {
	return func(n int) int {
		if len(b) == 0 {
			return 0
		}
		v := int(b[0])
		b = b[1:]
		return v % n
	}
}

// few are the ids that come up: few, so that modes and frames meet.
var few = []uint16{1, 2, 3, 4, 5, 4094}

func (next source) id() uint16 { return few[next(len(few))] }

func (next source) ids() vlan.Set {
	if next(8) == 0 {
		return vlan.AllIDs()
	}
	var s vlan.Set
	for range next(5) {
		_ = s.Add(next.id())
	}
	return s
}

// mode returns a valid mode.
func (next source) mode() vlan.Mode {
	for {
		var m vlan.Mode
		switch next(6) {
		case 1:
			m = vlan.Access(next.id())
		case 2:
			o := vlan.TrunkOptions{QinQ: next(3) == 0, Untagged: next(3) == 0, TPID: []uint16{0, 0, 0x8100, 0x88a8}[next(4)]}
			native := uint16(0)
			if next(2) == 0 && !o.Untagged {
				native = next.id()
			}
			m = vlan.Trunk(native, next.ids(), &o)
		case 3:
			m = vlan.Isolated(next.id(), next.id())
		case 4:
			m = vlan.Community(next.id(), next.id())
		case 5:
			m = vlan.Promiscuous(next.id(), next.ids())
		}
		if m.Validate() == nil {
			return m
		}
	}
}

func (next source) wire() wire {
	var w wire
	for range next(4) {
		tpid := []uint16{0x8100, 0x8100, 0x8100, 0x88a8, 0x88a8, 0x9100}[next(6)]
		vid := next.id()
		switch next(8) {
		case 0:
			vid = 0
		case 1:
			vid = 4095
		}
		w = append(w, wireTag{tpid, vid + uint16(next(16))*4096})
	}
	return w
}

// checkNoHopping sends a frame from one port to another, and fails when it ends in another VLAN than
// that in which it began, or anything else goes other than the specification says.
func checkNoHopping(t *testing.T, from, to vlan.Mode, w wire) {
	t.Helper()
	say := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%x from %s to %s: %s", w, from, to, fmt.Sprintf(format, args...))
	}

	f, drop := admit(from, w)
	want, ok := slowAdmit(from.Spec(), w)
	if ok != (drop == 0) {
		say("admitted: %v, want %v", drop, ok)
	}
	if !ok {
		return
	}
	if f.vlan != want.vlan || f.priority != want.priority || !slices.Equal(f.rest, want.rest) {
		say("admitted as %x, want %x", f, want)
	}

	out, drop := deliver(to, f)
	wantOut, ok := slowDeliver(to.Spec(), f)
	if ok != (drop == 0) {
		say("in VLAN %d, delivered: %v, want %v", f.vlan, drop, ok)
	}
	if !ok {
		return
	}
	if !slices.Equal(out, wantOut) {
		say("in VLAN %d, delivered as %x, want %x", f.vlan, out, wantOut)
	}

	// Whoever reads the frame, and in whatever way, must find it in its VLAN.
	outer, tagged := out.tag(0)
	switch {
	case !to.Receives(f.vlan):
		say("in VLAN %d, which is not received", f.vlan)
	case tagged && outer.tci%4096 != f.vlan:
		say("in VLAN %d, left as %x", f.vlan, out)
	case tagged && to.Kind() != vlan.KindTrunk:
		say("left as %x", out)
	case !tagged && to.Kind() == vlan.KindTrunk:
		if pvid, ok := to.PVID(); !ok || pvid != f.vlan {
			say("in VLAN %d, left untagged", f.vlan)
		}
	}
	if to.Kind() == vlan.KindTrunk { // a trunk of another switch with the same settings
		there, drop := admit(to, out)
		if drop != 0 || there.vlan != f.vlan || !slices.Equal(there.rest, f.rest) {
			say("in VLAN %d, there %x: %v", f.vlan, there, drop)
		}
	}
}

func TestNoFrameChangesItsVLAN(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	next := chance(r)
	for range 200_000 {
		checkNoHopping(t, next.mode(), next.mode(), next.wire())
	}
}

// A frame that crosses any number of switches over trunks stays in its VLAN, even if the trunks differ
// in how they write it.
func TestNoFrameChangesItsVLANOverManyTrunks(t *testing.T) {
	next := chance(rand.New(rand.NewPCG(7, 8)))
	crossed := 0
	for range 50_000 {
		f, drop := admit(next.mode(), next.wire())
		if drop != 0 {
			continue
		}
		vid := f.vlan
		for range 4 {
			trunk := next.mode()
			if trunk.Kind() != vlan.KindTrunk {
				continue
			}
			out, drop := deliver(trunk, f)
			if drop != 0 {
				continue
			}
			if f, drop = admit(trunk, out); drop != 0 || f.vlan != vid {
				t.Fatalf("VLAN %d became %d (%v) over %s", vid, f.vlan, drop, trunk)
			}
			crossed++
		}
	}
	if crossed < 1000 {
		t.Fatalf("only %d crossings", crossed)
	}
}

func FuzzNoHopping(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 20 {
		b := make([]byte, 40)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		next := bytesOf(b)
		checkNoHopping(t, next.mode(), next.mode(), next.wire())
	})
}

func TestAdmitAndDeliverDoNotAllocate(t *testing.T) {
	next := chance(rand.New(rand.NewPCG(11, 12)))
	for range 100 {
		from, to := next.mode(), next.mode()
		outer, _ := next.wire().tag(0)
		allocs := testing.AllocsPerRun(10, func() {
			tci, _ := from.Admit(outer.tpid, outer.tci, false)
			to.Deliver(tci, false)
			to.Receives(vlan.VID(tci))
		})
		if allocs != 0 {
			t.Fatalf("%v allocations from %s to %s", allocs, from, to)
		}
	}
}

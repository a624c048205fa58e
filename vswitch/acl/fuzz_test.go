package acl

import (
	"slices"
	"testing"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/stretchr/testify/require"
)

// FuzzCheck judges any bytes: nothing breaks, Peek foretells Check, and what no connection explains agrees
// with the reference.
func FuzzCheck(f *testing.F) {
	r := newSource(1)
	for range 30 {
		x := r.frame()
		f.Add(x.bytes(), true, uint16(1))
		e := r.errorAbout(&x)
		f.Add(e.bytes(), false, uint16(0))
	}
	for _, v := range []int{4, 6} {
		for _, x := range []frame{part(v, Out, 0, 80, true), part(v, In, 80, 80, true), part(v, Out, 80, 8, false)} {
			f.Add(x.bytes(), x.d == Out, uint16(0))
		}
	}
	for _, x := range handshake {
		y := x.frame()
		f.Add(y.bytes(), x.d == Out, uint16(0))
	}
	stateless := newSource(2).config(20, 100)
	stateful := stateless
	stateful.Extended = append(slices.Clone(stateless.Extended), ExtendedRule{Weight: 200, Direction: Both, Action: Allow, Stateful: true})
	stateful.CheckTCPWindows = true
	for i := range stateless.Extended {
		stateless.Extended[i].Stateful = false
	}
	open, rules := compile(f, stateful), compile(f, stateless)
	ref := newReference(stateless)
	f.Fuzz(func(t *testing.T, b []byte, out bool, vlan uint16) {
		d := In
		if out {
			d = Out
		}
		s := NewState()
		for range 3 {
			for _, p := range []*Policy{open, rules} {
				q := packetOf(b, uint32(vlan))
				peek := peek(s, p, d, second, q)
				v := judgeAll(s, p, d, second, q)
				require.Equal(t, peek, v)
				require.NotZero(t, v.Reason)
				requireReference(t, ref, p == rules, b, d, uint32(vlan), v)
			}
			judgeAll(s, open, d.reverse(), second, packetOf(b, uint32(vlan)))
		}
		checkTable(t, &s.table)
	})
}

// requireReference compares a verdict by stateless rules with the reference.
func requireReference(t *testing.T, ref *reference, stateless bool, b []byte, d Direction, vlan uint32, v Verdict) {
	var h header.Header
	h.Parse(b, len(b))
	if !stateless || h.Reason != header.OK || h.Flags&(header.IPv4|header.IPv6) == 0 || h.Flags&header.Fragment != 0 ||
		v.Reason == Neighbor {
		return
	}
	f := frame{d: d, proto: Protocol(h.Proto), vlan: vlan, sport: h.SrcPort, dport: h.DstPort}
	f.src, f.dst = h.Addrs(b)
	copy(f.srcMAC[:], b[6:])
	copy(f.dstMAC[:], b)
	if f.srcMAC.IsZero() {
		return
	}
	want := Verdict{Default, noRule}
	if m, a, e := ref.mac(&f), ref.ip(&f, false), ref.extended(&f, false); ref.denied(m) {
		want = Verdict{DeniedByMAC, int32(m)}
	} else if ref.denied(a) {
		want = Verdict{DeniedByAddress, int32(a)}
	} else if e >= 0 && ref.cfg.Extended[e].Action == Deny {
		want = Verdict{DeniedByRule, int32(e)}
	} else if e >= 0 {
		want = Verdict{ByRule, int32(e)}
	}
	require.Equal(t, want, v)
}

// FuzzStory compares stories of packets and changes of rules, made from a seed, with the reference.
func FuzzStory(f *testing.F) {
	f.Add(uint64(0), uint16(0))
	f.Fuzz(func(t *testing.T, seed uint64, limit uint16) {
		story(t, seed, int(limit))
	})
}

package acl

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// part returns a fragment of a datagram of UDP: n bytes at offset; the first 8 are the header.
func part(version int, d Direction, offset, n int, more bool) frame {
	f := frame{d: d, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: UDP, sport: 4000, dport: 53,
		fragment: true, id: 77, offset: offset, more: more, payload: make([]byte, n)}
	if version == 6 {
		f.src, f.dst = addr("fd00::5"), addr("2001:db8::1")
	}
	if offset == 0 {
		f.payload = f.payload[8:]
	}
	if d == In {
		f.src, f.dst, f.sport, f.dport = f.dst, f.src, f.dport, f.sport
	}
	return f
}

func TestFragmentsFollowTheFirst(t *testing.T) {
	for _, v := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", v), func(t *testing.T) {
			x := newScene(t, outOnly())
			x.send(part(v, Out, 1480, 1480, true), MissingFirst)
			x.send(part(v, Out, 0, 1480, true), New)
			x.send(part(v, Out, 1480, 1480, true), LaterPart)
			x.send(part(v, In, 1480, 1480, true), DeniedByRule)
			x.send(part(v, Out, 2960, 100, false), LaterPart)
			x.send(part(v, Out, 1480, 1480, true), MissingFirst) // the datagram is complete
			// The answer, in disorder.
			x.send(part(v, In, 0, 1480, true), Established)
			x.send(part(v, In, 2960, 10, false), LaterPart)
			x.send(part(v, In, 1480, 1480, true), LaterPart)
			x.send(part(v, In, 0, 1480, true), Established) // the same ID again
			// Not for ever.
			x.now += 30*second + 2*tick
			x.send(part(v, In, 1480, 1480, true), DeniedByRule)
		})
	}
}

func TestFragmentsOfOthers(t *testing.T) {
	for _, v := range []int{4, 6} {
		x := newScene(t, outOnly())
		x.send(part(v, Out, 0, 80, true), New)
		for _, change := range []func(*frame){
			func(f *frame) { f.id++ },
			func(f *frame) { f.vlan++ },
			func(f *frame) { f.dst = f.dst.Next() },
			func(f *frame) { f.src = f.src.Next() },
		} {
			f := part(v, Out, 80, 80, false)
			change(&f)
			x.send(f, MissingFirst)
		}
		f := part(v, Out, 80, 80, false)
		f.proto = TCP
		if v == 4 {
			x.send(f, MissingFirst)
		} else {
			x.send(f, LaterPart) // the first fragment says what is in an IPv6 datagram
		}
	}
}

func TestOverlappingFragments(t *testing.T) {
	for _, v := range []int{4, 6} {
		for _, c := range []struct {
			name  string
			parts []frame
			want  []Reason
		}{
			{"later again", []frame{part(v, Out, 80, 80, true), part(v, Out, 80, 80, true)}, []Reason{LaterPart, FragmentOverlap}},
			{"over the first", []frame{part(v, Out, 72, 16, true)}, []Reason{FragmentOverlap}},
			{"into the next", []frame{part(v, Out, 160, 80, true), part(v, Out, 80, 88, true)}, []Reason{LaterPart, FragmentOverlap}},
			{"within", []frame{part(v, Out, 80, 80, true), part(v, Out, 88, 8, true)}, []Reason{LaterPart, FragmentOverlap}},
			{"around", []frame{part(v, Out, 88, 8, true), part(v, Out, 80, 80, true)}, []Reason{LaterPart, FragmentOverlap}},
			{"behind the last", []frame{part(v, Out, 160, 80, false), part(v, Out, 240, 8, true)}, []Reason{LaterPart, FragmentOverlap}},
			{"two lasts", []frame{part(v, Out, 160, 80, false), part(v, Out, 80, 8, false)}, []Reason{LaterPart, FragmentOverlap}},
			{"last in front of others", []frame{part(v, Out, 160, 80, true), part(v, Out, 80, 8, false)}, []Reason{LaterPart, FragmentOverlap}},
			{"the gap", []frame{part(v, Out, 160, 80, false), part(v, Out, 80, 80, true), part(v, Out, 80, 80, true)}, []Reason{LaterPart, LaterPart, MissingFirst}},
		} {
			t.Run(fmt.Sprint("IPv", v, " ", c.name), func(t *testing.T) {
				x := newScene(t, outOnly())
				x.send(part(v, Out, 0, 80, true), New)
				for i, f := range c.parts {
					x.send(f, c.want[i])
				}
			})
		}
	}
}

// A second first fragment could replace the ports that were judged (RFC 3128, RFC 5722).
func TestFirstFragmentAgain(t *testing.T) {
	only53 := Config{Extended: []ExtendedRule{
		{Weight: 2, Direction: Out, Action: Allow, Protocol: UDP, RemotePorts: []PortRange{{First: 53}}}, {Weight: 1, Direction: Out, Action: Deny}}}
	x := newScene(t, only53)
	x.send(part(4, Out, 0, 80, true), ByRule)
	evil := part(4, Out, 0, 80, true)
	evil.dport = 25
	x.send(evil, DeniedByRule)
	x.send(part(4, Out, 80, 8, false), MissingFirst)

	x = newScene(t, only53)
	x.send(part(6, Out, 0, 80, true), ByRule)
	evil = part(6, Out, 0, 80, true)
	evil.dport = 25
	x.send(evil, FragmentOverlap)
	x.send(part(6, Out, 80, 8, false), LaterPart)
}

func TestTinyFragments(t *testing.T) {
	x := newScene(t, outOnly())
	f := step{Out, "S", 0, 0, 0, 0}.frame()
	f.fragment, f.more = true, true
	b := f.bytes()
	cut := b[:14+20+16] // 16 bytes of TCP
	cut[17] = 20 + 16
	x.packet(Out, packetOf(cut, 0), Malformed)
	f.offset, f.payload = 8, make([]byte, 8)
	x.send(f, Malformed) // within the TCP header
	x.send(part(4, Out, 0, 13, true), Malformed)
	x.send(part(6, Out, 0, 13, true), Malformed)
	x.send(part(4, Out, 0, 16, true), New)
	x.send(part(4, Out, 16, 3, true), Malformed)
	x.send(part(4, Out, 16, 3, false), LaterPart)
}

// A verdict that does not depend on ports needs no first fragment.
func TestFragmentsWithoutPortRules(t *testing.T) {
	x := newScene(t, Config{Extended: []ExtendedRule{
		{Weight: 3, Direction: In, Action: Deny, LocalPorts: []PortRange{{1, 1000}}, Remote: prefixes("198.51.100.0/24")},
		{Weight: 2, Direction: Out, Action: Allow, Remote: prefixes("192.0.2.0/24")},
		{Weight: 1, Direction: Out, Action: Deny},
	}})
	x.send(part(4, Out, 80, 8, false), ByRule)
	x.send(part(6, Out, 80, 8, false), DeniedByRule)
	x.send(part(4, In, 80, 8, false), Default)
	f := part(4, In, 80, 8, false)
	f.src = addr("198.51.100.1")
	x.send(f, MissingFirst)
}

func TestFragmentsInDisorder(t *testing.T) {
	x := newScene(t, outOnly())
	x.send(part(4, Out, 0, 8, true), New)
	for i := 1; i < maxRanges; i++ {
		x.send(part(4, Out, 16*i, 8, true), LaterPart)
	}
	x.send(part(4, Out, 800, 8, true), FragmentDisorder)
	x.send(part(4, Out, 8, 8, true), LaterPart) // joins two
	x.send(part(4, Out, 800, 8, true), LaterPart)
}

func TestFragmentsAfterAChangeOfRules(t *testing.T) {
	x := newScene(t, outOnly())
	x.send(part(4, Out, 0, 80, true), New)
	x.p = compile(t, outOnly())
	x.send(part(4, Out, 80, 80, true), MissingFirst)
	x.send(part(4, Out, 0, 80, true), Established)
	x.send(part(4, Out, 80, 80, true), LaterPart)
}

func TestFragmentedDatagramsAreBounded(t *testing.T) {
	x := newScene(t, Config{Extended: []ExtendedRule{{Weight: 1, Direction: Out, Action: Allow, Stateful: true}}})
	f := part(6, Out, 0, 80, true)
	for i := range 5 * maxDatagrams {
		f.id = uint32(i)
		require.True(t, judgeAll(x.s, x.p, Out, x.now, f.packet()).Allowed())
	}
	require.Len(t, x.s.datagrams.places, maxDatagrams)
	require.Greater(t, x.s.Stats().DatagramsEvicted, uint64(3*maxDatagrams))
	x.now += 31 * second
	x.s.Sweep(x.now)
	require.Empty(t, x.s.datagrams.places)
}

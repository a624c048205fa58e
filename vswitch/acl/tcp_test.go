package acl

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func after(steps []step, more ...step) []step { return append(slices.Clone(steps), more...) }

func TestTCPStories(t *testing.T) {
	closed := after(handshake,
		step{Out, "FA", 1, 1, 0, Established}, step{In, "A", 1, 2, 0, Established},
		step{In, "FA", 1, 2, 0, Established}, step{Out, "A", 2, 2, 0, Established})
	for _, c := range []struct {
		name  string
		steps []step
		state connState
	}{
		{"handshake", handshake, established},
		{"data both ways", after(handshake,
			step{Out, "A", 1, 1, 500, Established}, step{In, "PA", 1, 501, 900, Established}, step{Out, "A", 501, 901, 0, Established}), established},
		{"SYN again", []step{{Out, "S", 0, 0, 0, New}, {Out, "S", 0, 0, 0, Established}, {In, "SA", 0, 1, 0, Established}}, synReceived},
		{"another SYN with another number", []step{
			{Out, "S", 0, 0, 0, New}, {Out, "S", 777, 0, 0, Established},
			{In, "SA", 0, 1, 0, BadState}, {In, "SA", 0, 778, 0, Established}}, synReceived},
		{"answer again", after(handshake[:2], step{In, "SA", 0, 1, 0, Established}, handshake[2]), established},
		{"answer again after the acknowledgment was lost", after(handshake, step{In, "SA", 0, 1, 0, Established}), established},
		{"answer with another number later", after(handshake, step{In, "SA", 9, 1, 0, BadState}), established},
		{"server speaks before the acknowledgment", after(handshake[:2], step{In, "A", 1, 1, 100, Established}, step{Out, "A", 1, 101, 0, Established}), established},
		{"data with the SYN", []step{{Out, "S", 0, 0, 10, New}, {In, "SA", 0, 11, 0, Established}, {Out, "A", 11, 1, 0, Established}}, established},
		{"data with the SYN not taken", []step{{Out, "S", 0, 0, 10, New}, {In, "SA", 0, 1, 0, Established}, {Out, "A", 1, 1, 10, Established}}, established},
		{"refused", []step{{Out, "S", 0, 0, 0, New}, {In, "RA", 0, 1, 0, Established}}, reset},
		{"refused by a forger", []step{{Out, "S", 0, 0, 0, New}, {In, "RA", 0, 5, 0, BadState}, {In, "R", 0, 0, 0, BadState}}, synSent},
		{"answer by a forger", []step{{Out, "S", 0, 0, 0, New}, {In, "SA", 0, 2, 0, BadState}, {In, "SA", 0, 0, 0, BadState}}, synSent},
		{"acknowledgment of no answer", []step{{Out, "S", 0, 0, 0, New}, {Out, "A", 1, 1, 0, BadState}}, synSent},
		{"data before the answer", []step{{Out, "S", 0, 0, 0, New}, {In, "A", 1, 1, 10, BadState}}, synSent},
		{"acknowledgment of another answer", after(handshake[:2], step{Out, "A", 1, 5, 0, BadState}, step{Out, "A", 1, 0, 0, BadState}), synReceived},
		{"both open at once", []step{
			{Out, "S", 0, 0, 0, New}, {In, "S", 0, 0, 0, Established},
			{Out, "SA", 0, 1, 0, Established}, {In, "SA", 0, 1, 0, Established}, {Out, "A", 1, 1, 5, Established}}, established},
		{"peer remembers an old connection", []step{
			{Out, "S", 0, 0, 0, New}, {In, "A", 90000, 70000, 0, Established}, {Out, "R", 70000, 0, 0, Established},
			{Out, "S", 0, 0, 0, Established}, {In, "SA", 0, 1, 0, Established}}, synReceived},
		{"one side closes", after(handshake, step{Out, "FA", 1, 1, 0, Established}, step{In, "A", 1, 2, 100, Established}), halfClosed},
		{"both close", closed, closing},
		{"both close at once", after(handshake, step{Out, "FA", 1, 1, 0, Established}, step{In, "FA", 1, 1, 0, Established}), closing},
		{"closes before it is open", after(handshake[:2], step{In, "FA", 1, 1, 0, Established}, step{Out, "A", 1, 2, 0, Established}), halfClosed},
		{"last acknowledgment again", after(closed, step{In, "FA", 1, 2, 0, Established}, step{Out, "A", 2, 2, 0, Established}), closing},
		{"ports used again", after(closed, step{Out, "S", 9000, 0, 0, New}), synSent},
		{"peer uses the ports", after(closed, step{In, "S", 9000, 0, 0, DeniedByRule}), closing},
		{"reset", after(handshake, step{In, "R", 1, 0, 0, Established}, step{In, "A", 1, 1, 10, Established}), reset},
		{"reset behind data", after(handshake, step{In, "A", 1, 1, 10, Established}, step{In, "RA", 11, 1, 0, Established}), reset},
		{"reset by the opener", after(handshake, step{Out, "RA", 1, 1, 0, Established}), reset},
		{"used again after a reset", after(handshake, step{In, "R", 1, 0, 0, Established}, step{Out, "S", 50, 0, 0, New}), synSent},
		{"reset by a forger", after(handshake, step{In, "R", 500, 0, 0, Established}), established},
		{"reset by a forger who prepares it", after(handshake,
			step{In, "A", 100000, 1, 0, Established}, step{In, "R", 100000, 0, 0, Established}), established},
		{"peer opens on an open connection", after(handshake, step{In, "S", 100, 0, 0, BadState}), established},
		{"opener restarts", after(handshake,
			step{Out, "S", 7000, 0, 0, Established}, step{In, "A", 1, 1, 0, Established}, step{Out, "R", 1, 0, 0, Established},
			step{Out, "S", 7000, 0, 0, New}), synSent},
		{"flags that do not occur", after(handshake,
			step{Out, "SF", 1, 1, 0, BadState}, step{Out, "", 1, 1, 0, BadState}, step{Out, "F", 1, 0, 0, BadState},
			step{Out, "SFRPA", 1, 1, 0, BadState}, step{Out, "SR", 1, 1, 0, BadState}), established},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newScene(t, outOnly())
			x.play(c.steps...)
			require.Equal(t, 1, x.s.Stats().Connections)
			require.Equal(t, c.state, x.s.table.at(1).state)
		})
	}
}

func TestForgedSegmentsDoNotBegin(t *testing.T) {
	for _, flags := range []string{"A", "PA", "FA", "R", "RA", "SA", "", "SF", "SFRPA"} {
		for _, d := range []Direction{Out, In} {
			x := newScene(t, Config{Extended: []ExtendedRule{{Weight: 1, Direction: Both, Action: Allow, Stateful: true}}})
			want := NoConnection
			if !validFlags(step{flags: flags}.frame().flags & tcpFlags) {
				want = BadState
			}
			x.send(step{d, flags, 1, 1, 10, 0}.frame(), want)
			require.Zero(t, x.s.Stats().Connections)
		}
	}
}

func TestStatelessRulesIgnoreStates(t *testing.T) {
	x := newScene(t, Config{Extended: []ExtendedRule{{Weight: 1, Direction: Both, Action: Allow}}})
	x.play(step{In, "A", 1, 1, 10, ByRule}, step{Out, "SFRPA", 1, 1, 10, ByRule})
}

func TestPickUp(t *testing.T) {
	c := outOnly()
	c.PickUp, c.CheckTCPWindows = true, true
	x := newScene(t, c)
	x.play(
		step{In, "A", 1, 1, 10, DeniedByRule},
		step{Out, "FA", 1, 1, 10, NoConnection},
		step{Out, "A", 1, 1, 10, New},
		step{In, "A", 70000, 500, 10, Established}, // windows are not known
		step{In, "S", 1, 1, 0, BadState},
		step{In, "R", 12345, 0, 0, Established})
	require.Equal(t, reset, x.s.table.at(1).state)
}

func TestTCPWindows(t *testing.T) {
	c := outOnly()
	c.CheckTCPWindows = true
	for _, v := range []struct {
		name string
		step step
	}{
		{"beyond the window", step{In, "A", 1002, 1, 10, OutOfWindow}},
		{"at its edge", step{In, "A", 1001, 1, 0, Established}},
		{"long past", step{In, "A", -1100, 1, 10, OutOfWindow}},
		{"sent again", step{In, "A", 1, 1, 10, Established}},
		{"keep-alive", step{In, "A", 0, 1, 1, Established}},
		{"acknowledges what was not sent", step{In, "A", 1, 2, 0, OutOfWindow}},
		{"acknowledges what is long past", step{In, "A", 1, -70000, 0, OutOfWindow}},
		{"reset outside", step{In, "R", 5000, 0, 0, OutOfWindow}},
		{"reset inside, not exact", step{In, "R", 500, 0, 0, Established}},
	} {
		t.Run(v.name, func(t *testing.T) {
			x := newScene(t, c)
			x.play(after(handshake, v.step)...)
			require.Equal(t, established, x.s.table.at(1).state)
			x.play(step{In, "A", 1, 1, 10, Established})
		})
	}
}

func TestTCPWindowScale(t *testing.T) {
	scale := func(n byte) []byte { return []byte{2, 4, 5, 0xb4, 1, 3, 3, n} } // MSS, NOP, scale
	open := func(t *testing.T, out, in []byte) *scene {
		c := outOnly()
		c.CheckTCPWindows = true
		x := newScene(t, c)
		for i, s := range handshake {
			f := s.frame()
			f.options = [][]byte{out, in, nil}[i]
			x.send(f, s.want)
		}
		return x
	}
	far := step{In, "A", 1 + 100_000, 1, 10, Established} // 1,000 scaled by 7 is 128,000
	x := open(t, scale(7), scale(0))
	x.play(far)
	far.want = OutOfWindow
	for _, other := range [][]byte{nil, {1, 1, 3}, {3, 2}, {3, 0, 0}, {0, 3, 3, 7}, {8, 40, 3, 3}} {
		open(t, scale(7), other).play(far)
		open(t, other, scale(7)).play(far)
	}
}

// A segment of 64 KiB that the sender leaves to be cut is one frame.
func TestLargeSegments(t *testing.T) {
	c := outOnly()
	c.CheckTCPWindows = true
	x := newScene(t, c)
	x.play(handshake...)
	var at int
	for range 50 {
		big := step{Out, "A", 1 + at, 1, 60000, Established}.frame()
		at += 60000
		answer := step{In, "A", 1, 1 + at, 0, Established}.frame()
		x.s.table.at(1).sides[0].limit = big.seq + 60000 // the peer has room
		x.send(big, Established)
		x.send(answer, Established)
	}
}

func TestTCPTimeouts(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step
		lives time.Duration
	}{
		{"SYN", handshake[:1], time.Minute},
		{"SYN answered", handshake[:2], time.Minute},
		{"established", handshake, 124 * time.Minute},
		{"half closed", after(handshake, step{Out, "FA", 1, 1, 0, Established}), 4 * time.Minute},
		{"closed", after(handshake, step{Out, "FA", 1, 1, 0, Established}, step{In, "FA", 1, 2, 0, Established}), 4 * time.Minute},
		{"reset", after(handshake, step{In, "R", 1, 0, 0, Established}), 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				x := newScene(t, outOnly())
				x.play(c.steps...)
				x.now += c.lives
				want := Established
				if late {
					x.now += tick
					want = DeniedByRule
				}
				// Any answer that would pass in every state but the first.
				answer := step{In, "SA", 0, 1, 0, 0}.frame()
				if x.s.table.at(1).state == reset {
					answer = step{In, "A", 1, 1, 0, 0}.frame()
				}
				x.send(answer, want)
			}
		})
	}
}

func TestTCPOverIPv6(t *testing.T) {
	x := newScene(t, outOnly())
	for _, s := range handshake {
		f := s.frame()
		f.src, f.dst = addr("fd00::5"), addr("2001:db8::1")
		if s.d == In {
			f.src, f.dst = f.dst, f.src
		}
		x.send(f, s.want)
	}
	f := frame{d: In, src: addr("2001:db8::1"), dst: addr("fd00::6"), proto: TCP, sport: 443, dport: 40000, flags: tcpACK}
	x.send(f, DeniedByRule)
}

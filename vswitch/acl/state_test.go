package acl

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// compare runs random frames through the package and the reference.
func compare(t *testing.T, seed uint64, cfg func(source) Config, frames int, step func(source) int) {
	r := newSource(seed)
	c := cfg(r)
	p, err := Compile(&c)
	require.NoError(t, err)
	s, ref := NewState(), newReference(c)
	type exchange struct {
		frame
		quoted *frame // of an ICMP error
	}
	var sent []exchange
	now, replaced := 1000, false
	for i := range frames {
		now += step(r)
		if r.IntN(150) == 0 { // other rules
			k := cfg(r)
			k.Connections = c.Connections
			p, err = Compile(&k)
			require.NoError(t, err)
			ref.cfg, replaced = k, true
			ref.epoch++
			if !ref.tracks() {
				clear(ref.conns)
				ref.order = nil
			}
		}
		f := exchange{frame: r.frame()}
		if n := len(sent); n > 0 {
			old := sent[n-1-r.IntN(min(n, 30))]
			switch r.IntN(10) {
			case 0, 1, 2:
				f = old
				if f.fragment {
					f.offset, f.more = 8*r.IntN(pick(r, 12, 60)), r.IntN(4) > 0
					f.payload = make([]byte, 8*(1+r.IntN(3)))
				}
			case 3, 4, 5:
				f.frame = old.reply()
				if f.echo() {
					f.icmp = append([]byte(nil), f.icmp...)
					f.icmp[0] = map[byte]byte{0: 8, 8: 0, 128: 129, 129: 128}[f.icmp[0]]
				}
				if old.quoted != nil {
					about := *old.quoted
					about.d = f.d.reverse()
					f.quoted = &about
				}
			case 6:
				f = exchange{frame: r.errorAbout(&old.frame)}
				if _, ok := old.key(); ok && !(old.fragment && old.offset > 0) {
					f.quoted = &old.frame
				}
			}
		}
		if f.proto == TCP && !f.fragment {
			f.flags = r.frameFlags()
			f.seq, f.ack = pick[uint32](r, 0, 1, 2, 3, 1000, 100_000), pick[uint32](r, 0, 1, 2, 3, 1000)
		}
		if !f.fragment && f.icmp == nil && r.IntN(8) == 0 {
			f.fragment, f.id, f.offset = true, uint32(r.IntN(3)), 0
		}
		if f.fragment && f.proto == TCP && f.offset > 0 && f.offset < 20 {
			f.offset = 24
		}
		if f.fragment && f.offset == 0 {
			f.more, f.payload = true, make([]byte, 24)
			if f.proto == TCP || f.proto == SCTP {
				f.payload = make([]byte, 28) // to a multiple of 8
			}
		}
		sent = append(sent, f)
		what := func() string { return fmt.Sprintf("seed %d, packet %d at %d: %+v", seed, i, now, f.frame) }
		at := time.Duration(now) * tick
		if i%7 == 0 {
			s.Sweep(at)
		}
		q := f.packet()
		peek := peek(s, p, f.d, at, q)
		if q.header.Reason != 0 {
			continue // some fragments are
		}
		got := judgeAll(s, p, f.d, at, q)
		want := ref.check(&f.frame, f.quoted, now)
		if got != want || peek != got {
			t.Fatalf("%s\nwant %s\n got %s\npeek %s", what(), p.Describe(want), p.Describe(got), p.Describe(peek))
		}
	}
	if !replaced {
		for _, m := range s.Meters(p) {
			if want := ref.meters[m.Rule]; want != nil {
				require.Equal(t, *want, [2]uint64{m.Out.Bytes, m.In.Bytes})
			} else {
				require.Zero(t, m.In.Bytes+m.Out.Bytes)
			}
		}
	}
	checkTable(t, &s.table)
}

func (r source) frameFlags() uint8 {
	return pick[uint8](r, tcpSYN, tcpSYN, tcpSYN|tcpACK, tcpSYN|tcpACK, tcpACK, tcpACK, tcpACK, tcpFIN|tcpACK, tcpRST, tcpRST|tcpACK, 0, 0x3f)
}

// story compares with a table that is never full, or, with a limit, while time stands still: how soon
// what has expired makes room is not fixed.
func story(t *testing.T, seed uint64, limit int) {
	compare(t, seed, func(r source) Config {
		c := r.config(r.IntN(10), r.IntN(40))
		c.KeepEstablished, c.PickUp, c.CheckTCPWindows = r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(2) == 0
		c.Connections = limit
		c.Timeouts.UDP = pick(r, 0, time.Second)
		for i := range c.Extended {
			if e := &c.Extended[i]; e.Stateful && r.IntN(3) == 0 {
				e.IdleTimeout = 2 * time.Second
			}
		}
		if limit > 0 {
			c.Extended = append(c.Extended, ExtendedRule{Weight: 20, Direction: Both, Action: Allow, Stateful: true})
		}
		return c
	}, 1500, func(r source) int {
		if limit > 0 {
			return 0
		}
		return pick(r, 0, 0, 0, 1, 5, 30)
	})
}

func TestStateAgreesWithReference(t *testing.T) {
	for seed := range uint64(60) {
		story(t, seed, int(seed%3*seed/3))
	}
}

// checkTable looks at everything that must hold between the parts of a table.
func checkTable(t *testing.T, b *table) {
	t.Helper()
	reached := 0
	for i := range b.buckets {
		for ref := b.heads[i/blockHeads][i%blockHeads]; ref != 0; ref = b.at(ref).next {
			require.LessOrEqual(t, int(ref), b.count)
			require.Same(t, b.head(b.at(ref).hash), &b.heads[i/blockHeads][i%blockHeads])
			reached++
		}
	}
	require.Equal(t, b.count, reached)
	evictable := 0
	for i := range b.count {
		if b.at(uint32(i + 1)).state.evictable() {
			evictable++
		}
	}
	queued, older := 0, uint32(0)
	for ref := b.oldest; ref != 0; ref = b.at(ref).newer {
		require.Equal(t, older, b.at(ref).older)
		require.True(t, b.at(ref).state.evictable())
		older = ref
		queued++
	}
	require.Equal(t, older, b.newest)
	require.Equal(t, evictable, queued)
}

package vhostuser

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// poke is one of the things that a guest can do to its rings. It writes descriptors and makes them
// available.
type poke struct {
	name  string
	tx    bool // of the ring on which the guest sends
	do    func(g *vm, q *virtqueue)
	want  error
	split bool // makes sense on a split ring only
}

// chainOf makes raw descriptors available as one chain.
func chainOf(q *virtqueue, ds ...splitDesc) {
	g := q.vm
	if q.packed {
		first := q.next
		for i, d := range ds {
			f := d.flags
			if q.wrap {
				f |= descAvail
			} else {
				f |= descUsed
			}
			b := g.mem[q.desc+int(q.next)*descLen:]
			le.PutUint64(b, d.addr)
			le.PutUint32(b[8:], d.len)
			if i > 0 {
				le.PutUint16(b[12:], 0)
				le.PutUint16(b[14:], f)
			}
			if q.next++; int(q.next) == q.size {
				q.next, q.wrap = 0, !q.wrap
			}
		}
		f := ds[0].flags | descAvail
		q.store32(q.desc+int(first)*descLen+12, uint32(f)<<16)
		q.notify()
		return
	}
	for i, d := range ds {
		b := g.mem[q.desc+i*descLen:]
		le.PutUint64(b, d.addr)
		le.PutUint32(b[8:], d.len)
		le.PutUint16(b[12:], d.flags)
		le.PutUint16(b[14:], d.next)
	}
	le.PutUint16(g.mem[q.avail+4+2*(int(q.next)&(q.size-1)):], 0)
	q.next++
	q.store32(q.avail, uint32(q.next)<<16)
	q.notify()
}

func chain(ds ...splitDesc) func(*vm, *virtqueue) {
	return func(_ *vm, q *virtqueue) { chainOf(q, ds...) }
}

// table makes a chain of an indirect table of n bytes.
func table(flags uint16, n uint32, ds ...splitDesc) func(*vm, *virtqueue) {
	return func(g *vm, q *virtqueue) {
		at := q.table(0)
		for i, d := range ds {
			b := g.mem[at+i*descLen:]
			le.PutUint64(b, d.addr)
			le.PutUint32(b[8:], d.len)
			if q.packed {
				le.PutUint32(b[12:], uint32(d.flags&^descNext)<<16)
			} else {
				le.PutUint16(b[12:], d.flags)
				le.PutUint16(b[14:], d.next)
			}
		}
		chainOf(q, splitDesc{g.physical(at), n, descIndirect | flags, 0})
	}
}

const (
	r = 0
	w = descWrite
	n = descNext
	i = descIndirect

	good = lowBase // an address in guest memory
	last = highBase - 1
)

var pokes = []poke{
	{"available index far ahead", true, func(_ *vm, q *virtqueue) { q.store32(q.avail, 257<<16); q.notify() }, errAvailIndex, true},
	{"available index behind", true, func(_ *vm, q *virtqueue) { q.store32(q.avail, 0xffff<<16); q.notify() }, errAvailIndex, true},
	{"head beyond the ring", true, func(g *vm, q *virtqueue) {
		le.PutUint16(g.mem[q.avail+4:], 256)
		q.store32(q.avail, 1<<16)
		q.notify()
	}, errHead, true},
	{"chain longer than the ring", true, func(_ *vm, q *virtqueue) {
		if !q.packed {
			chainOf(q, splitDesc{good, 100, n, 1}, splitDesc{good, 100, n, 0})
			return
		}
		for i := range q.size {
			q.store32(q.desc+i*descLen+12, (descAvail|n)<<16)
		}
		q.notify()
	}, errLoop, false},
	{"address 0", true, chain(splitDesc{0, 100, r, 0}), errAddress, false},
	{"address nowhere", true, chain(splitDesc{1 << 60, 100, r, 0}), errAddress, false},
	{"address that wraps", true, chain(splitDesc{1<<64 - 10, 100, r, 0}), errAddress, false},
	{"length beyond the region", true, chain(splitDesc{good, 1 << 31, r, 0}), errAddress, false},
	{"across two regions", true, func(g *vm, q *virtqueue) {
		chainOf(q, splitDesc{lowBase + uint64(len(g.mem)/2) - 10, 100, r, 0})
	}, errAddress, false},
	{"writable buffer to send", true, chain(splitDesc{good, 100, w, 0}), errWriteOnly, false},
	{"length 0", true, chain(splitDesc{good, 0, r, 0}), errEmpty, false},
	{"length 0 in a chain", true, chain(splitDesc{good, 100, n, 1}, splitDesc{good, 0, r, 0}), errEmpty, false},
	{"shorter than the header", true, chain(splitDesc{good, 11, r, 0}), errNoHeader, false},
	{"loop of one", true, chain(splitDesc{good, 100, n, 0}), nil, true},
	{"loop of two", true, chain(splitDesc{good, 100, n, 1}, splitDesc{good, 100, n, 0}), errLoop, true},
	{"next beyond the ring", true, chain(splitDesc{good, 100, n, 256}), errHead, true},
	{"second buffer nowhere", true, chain(splitDesc{good, 100, n, 1}, splitDesc{0, 100, r, 0}), errAddress, false},
	{"second buffer writable", true, chain(splitDesc{good, 100, n, 1}, splitDesc{good, 100, w, 0}), errWriteOnly, false},
	{"indirect table of no length", true, table(0, 0), errIndirect, false},
	{"indirect table of odd length", true, table(0, 24, splitDesc{good, 100, r, 0}), errIndirect, false},
	{"indirect table too long", true, table(0, 16<<20), errIndirect, false},
	{"indirect table nowhere", true, chain(splitDesc{0, 16, i, 0}), errAddress, false},
	{"indirect table in a table", true, table(0, 16, splitDesc{good, 16, i, 0}), errIndirect, false},
	{"indirect table that goes on", true, func(g *vm, q *virtqueue) {
		chainOf(q, splitDesc{g.physical(q.table(0)), 16, i | n, 1}, splitDesc{good, 100, r, 0})
	}, errIndirect, false},
	{"indirect table in a chain", true, chain(splitDesc{good, 100, n, 1}, splitDesc{good, 16, i, 0}), errIndirect, false},
	{"loop in an indirect table", true, table(0, 32, splitDesc{good, 100, n, 1}, splitDesc{good, 100, n, 0}), errLoop, true},
	{"next beyond the indirect table", true, table(0, 32, splitDesc{good, 100, n, 2}), errHead, true},

	{"read-only buffer to receive into", false, chain(splitDesc{good, 2000, r, 0}), errReadOnly, false},
	{"receive buffer nowhere", false, chain(splitDesc{0, 2000, w, 0}), errAddress, false},
	{"receive buffer of no length", false, chain(splitDesc{good, 0, w, 0}), errEmpty, false},
	{"receive buffer shorter than the header", false, chain(splitDesc{good, 5, w, 0}), errNoHeader, false},
	{"receive chain with a read-only part", false, chain(splitDesc{good, 12, w | n, 1}, splitDesc{good, 2000, r, 0}), errReadOnly, false},
	{"receive index far ahead", false, func(_ *vm, q *virtqueue) { q.store32(q.avail, 400<<16) }, errAvailIndex, true},
	{"indirect table of receive buffers nowhere", false, chain(splitDesc{0, 16, i, 0}), errAddress, false},
}

// A guest that breaks the rules loses its ring, and nothing else happens. After a reset it is fine again.
func TestHostileGuest(t *testing.T) {
	for _, f := range []uint64{allFeatures, allFeatures &^ featEventIdx, allFeatures | featPacked} {
		packed := f&featPacked != 0
		for _, c := range pokes {
			if c.want == nil || c.split && packed {
				continue
			}
			name := "split/"
			if packed {
				name = "packed/"
			}
			t.Run(name+c.name, func(t *testing.T) {
				path := socket(t)
				p := must(t, path, nil)
				g := newVM(t, vmConfig{features: f})
				g.dial(path)
				g.negotiate()
				g.setMemory()
				for _, q := range g.all() {
					g.start(q, q.firstBase())
					g.enable(q, 1)
				}
				eventually(t, "no link", func() bool { return p.Link().Up })
				q := g.rx[0]
				if c.tx {
					q = g.tx[0]
				}
				c.do(g, q)
				b := ports.NewBatch(8)
				if c.tx {
					require.NoError(t, p.Rx(0).Recv(b), "the queue is not dead")
					require.Zero(t, b.Len())
				} else {
					n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(100, 0))})
					require.Zero(t, n)
					require.ErrorIs(t, err, ports.ErrLinkDown)
				}
				eventually(t, "the link stays up", func() bool { return !p.Link().Up })
				require.ErrorIs(t, p.Err(), c.want)
				var e *RingError
				require.ErrorAs(t, p.Err(), &e)
				require.Equal(t, q.index, e.Ring)
				require.EqualValues(t, 1, p.Stats().Broken)

				for _, q := range g.all() {
					g.stop(q)
					q.reset()
					g.start(q, q.firstBase())
				}
				g.fill(0)
				eventually(t, "the link stays down", func() bool { return p.Link().Up })
				passes(t, p, g, 0)
			})
		}
	}
}

func TestIDBeyondThePackedRing(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures | featPacked})
	event := g.eventfd()
	g.must(reqSetVringErr, quads(1), event)
	g.tx[0].store32(g.tx[0].desc+12, 256|descAvail<<16)
	recvNone(t, p)
	require.ErrorIs(t, p.Err(), errID)
	assert.EqualError(t, p.Err(), "virtqueue 1: buffer id is beyond the ring")
	var b [8]byte
	n, err := unix.Read(event, b[:])
	assert.NoError(t, err, "the front-end is not told")
	assert.Equal(t, 8, n)
}

// Frames that cannot be are dropped, the others pass.
func TestImpossibleFrames(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures &^ featHostTSO6, mem: 64 << 20})
	at := g.alloc(200<<10, 64)
	send := func(hdr []byte, n int) {
		clear(g.mem[at:][:12])
		copy(g.mem[at:], hdr)
		require.True(t, g.tx[0].add([]buffer{{at, 12 + n}}, false, false, 0))
		recvNone(t, p)
		_, _, ok := g.tx[0].get()
		require.True(t, ok, "the buffer does not come back")
	}
	send(nil, 13)
	send(nil, ports.MaxFrame+1)
	send(nil, 150<<10)
	send([]byte{1, 2}, 100)                                         // unknown segmentation
	send([]byte{1, 1, 0, 0, 0, 0, 34, 0, 16, 0}, 100)               // of size 0
	send([]byte{1, 4, 74, 0, 0, 4, 54, 0, 16, 0}, 2000)             // not negotiated
	send([]byte{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0}, 2000) // checksum nowhere
	s := p.Stats()
	assert.EqualValues(t, 2, s.TooLong)
	assert.EqualValues(t, 5, s.Malformed)
	assert.Zero(t, s.Broken)
	passes(t, p, g, 0)
}

// A frame in very many buffers is copied.
func TestManyBuffers(t *testing.T) {
	for _, f := range []uint64{allFeatures, allFeatures | featPacked} {
		p, g := plug(t, nil, vmConfig{features: f, size: 2048})
		at := g.slots[0][1].at
		for _, n := range []int{maxBody, maxBody + 1, 1000, maxChain} {
			want := ether(1400, byte(n))
			clear(g.mem[at:][:12])
			copy(g.mem[at+12:], want)
			var bufs []buffer
			for i := range n - 1 {
				bufs = append(bufs, buffer{at + i, 1})
			}
			bufs = append(bufs, buffer{at + n - 1, 1412 - (n - 1)})
			require.True(t, g.tx[0].add(bufs, false, false, 0))
			require.Equal(t, [][]byte{want}, recv(t, p, 0, 1))
			_, _, ok := g.tx[0].get()
			require.True(t, ok)
		}
	}
}

func recvNone(t *testing.T, p *Port) {
	t.Helper()
	b := ports.NewBatch(4)
	require.NoError(t, p.Rx(0).Recv(b))
	require.Zero(t, b.Len())
}

// The VMM truncates the memory of its guest: a fault at whatever is touched.
func TestMemoryVanishes(t *testing.T) {
	t.Run("of the ring received from", func(t *testing.T) {
		p, g := plug(t, nil, vmConfig{features: allFeatures})
		require.NoError(t, unix.Ftruncate(g.fd, 0))
		recvNone(t, p)
		eventually(t, "the link stays up", func() bool { return !p.Link().Up })
		assert.ErrorIs(t, p.Err(), errFault)
	})
	t.Run("of the ring sent to", func(t *testing.T) {
		p, g := plug(t, nil, vmConfig{features: allFeatures})
		require.NoError(t, unix.Ftruncate(g.fd, 0))
		n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(60, 0))})
		assert.Zero(t, n)
		assert.ErrorIs(t, err, ports.ErrLinkDown)
		assert.ErrorIs(t, p.Err(), errFault)
	})
	for _, f := range []uint64{allFeatures, allFeatures | featPacked} {
		t.Run("of a frame on its way to another guest", func(t *testing.T) {
			victim, gv := plug(t, nil, vmConfig{features: f, layout: layout{rxLen: 600}})
			p, g := plug(t, nil, vmConfig{features: f})
			require.NoError(t, g.Put(portstest.Packet{Bytes: ether(1400, 0)}))
			b := ports.NewBatch(4)
			eventually(t, "no frame", func() bool {
				require.NoError(t, p.Rx(0).Recv(b))
				return b.Len() == 1
			})
			require.NoError(t, unix.Ftruncate(g.fd, 0))
			a, z := frame(ether(60, 1)), frame(ether(60, 2))
			n, err := victim.Tx(0).Send([]*ports.Frame{a, b.Frames()[0], z})
			assert.Equal(t, 1, n)
			assert.ErrorIs(t, err, errSource)
			n, err = victim.Tx(0).Send([]*ports.Frame{z})
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
			for i := range 2 {
				got, ok := gv.Take(patience)
				require.True(t, ok)
				assert.Equal(t, ether(60, byte(i+1)), got.Bytes)
			}
			b.Reset()
			p.Rx(0).Release()
			assert.True(t, victim.Link().Up)
			eventually(t, "its own link stays up", func() bool { return !p.Link().Up })
			passes(t, victim, gv, 0)
		})
	}
}

// A guest writes random bytes all over its rings while they are used.
func TestRandomRings(t *testing.T) {
	for _, f := range []uint64{allFeatures, allFeatures | featPacked} {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		p, g := plug(t, nil, vmConfig{features: f, size: 16})
		out := []*ports.Frame{frame(ether(60, 0)), frame(ether(1500, 0))}
		b := ports.NewBatch(8)
		for round := range 400 {
			for _, q := range g.all() {
				if round%8 == 0 {
					g.stop(q)
					q.reset()
					g.start(q, q.firstBase())
				}
				for range 1 + rnd.IntN(8) {
					at := []int{q.desc, q.avail, q.used}[rnd.IntN(3)]
					g.mem[at+rnd.IntN(48)] = byte(rnd.Uint32())
				}
				if rnd.IntN(2) == 0 { // an address that is good
					le.PutUint64(g.mem[q.desc+descLen*rnd.IntN(16):], g.physical(rnd.IntN(len(g.mem))))
				}
			}
			for range 4 {
				require.NoError(t, p.Rx(0).Recv(b))
				for _, f := range b.Frames() {
					f.CopyTo(make([]byte, f.WireLen()))
				}
				b.Reset()
				p.Rx(0).Release()
				if _, err := p.Tx(0).Send(out); err != nil && !errors.Is(err, ports.ErrLinkDown) && !errors.Is(err, ports.ErrFrameSize) {
					t.Fatal(err)
				}
			}
		}
	}
}

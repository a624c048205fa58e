package vhostuser

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// The test binary is a device at this path that sends back what it receives, when this is set.
const beDevice = "HVSWITCH_TEST_DEVICE"

func TestMain(m *testing.M) {
	if path := os.Getenv(beDevice); path != "" {
		reflect(path)
	}
	os.Exit(m.Run())
}

// reflect sends back what it receives, until it is killed.
func reflect(path string) {
	p, err := Listen(path, nil)
	if err != nil {
		panic(err)
	}
	b := ports.NewBatch(8)
	for {
		if err := p.Rx(0).Recv(b); err != nil {
			panic(err)
		}
		if b.Len() == 0 {
			time.Sleep(20 * time.Microsecond)
			continue
		}
		_, _ = p.Tx(0).Send(b.Frames()) // what finds no room is lost, as it is on a cable
		b.Reset()
		p.Rx(0).Release()
	}
}

// tracker is the in-flight buffer as a front-end has it.
type tracker struct {
	wire []byte
	fd   int
}

// track lets a device make the in-flight buffer.
func (g *vm) track() *tracker {
	g.t.Helper()
	require.NoError(g.t, g.send(reqGetInflightFD, 0, append(quads(0, 0), 2, 0, byte(g.size), byte(g.size>>8))))
	wire, fds, err := g.receive()
	require.NoError(g.t, err)
	require.Len(g.t, fds, 1)
	g.fds = append(g.fds, fds[0])
	return &tracker{wire, fds[0]}
}

// goOn starts the rings at another device, from where the last one was as far as a front-end knows.
func (g *vm) goOn(f *tracker) {
	g.t.Helper()
	g.must(reqSetInflightFD, f.wire, f.fd)
	g.setMemory()
	for _, q := range g.all() {
		base := q.firstBase()
		if !q.packed {
			base = q.load32(q.used) >> 16
		}
		g.start(q, base)
		g.enable(q, 1)
	}
}

// notes maps the buffer.
func (g *vm) notes(f *tracker) *inflight {
	g.t.Helper()
	n, err := mapInflight(f.fd, le.Uint64(f.wire), 0, 2, g.size)
	require.NoError(g.t, err)
	g.t.Cleanup(n.unmap)
	return n
}

// freeNotes returns how long the list of free notes of a packed ring is.
func freeNotes(t *testing.T, r *inflightRing, size int) int {
	seen := map[uint16]bool{}
	for i := r.packed().free; int(i) < size; i = r.note(i).next {
		require.False(t, seen[i], "the list is a circle")
		require.Zero(t, r.note(i).inflight)
		seen[i] = true
	}
	return len(seen)
}

// Another back-end gave chains of a packed ring back out of order before it went: the descriptors of those that it had
// taken are overwritten.
func TestResendsWhatAnotherTookOfAPackedRing(t *testing.T) {
	path := socket(t)
	p := must(t, path, nil)
	g := newVM(t, vmConfig{features: allFeatures&^featInOrder | featPacked})
	g.dial(path)
	g.negotiate()
	f := g.track()
	r := g.notes(f).ring(1)

	// Chains 0 to 3 are available, 2 of them in two descriptors; 1 has been given back, in place of 0, and 2 and 0
	// had been taken, in that order.
	q, s := g.tx[0], g.slots[0][1]
	var bufs [4][]buffer
	for i := range bufs {
		at := s.at + i*s.len
		clear(g.mem[at:][:12])
		copy(g.mem[at+12:], ether(60, byte(i)))
		bufs[i] = []buffer{{at, 72}}
		if i == 2 {
			bufs[i] = []buffer{{at, 40}, {at + 40, 32}}
		}
		require.True(t, q.put(bufs[i], false, false, i))
	}
	for i := range uint16(256) {
		r.note(i).next = i + 1
	}
	*r.packed() = inflightPacked{version: 1, size: 256, free: 3, oldFree: 3, used: 1, oldUsed: 1, wrap: 1, oldWrap: 1}
	taken := func(note, id uint16, b buffer, flags uint16) {
		n := r.note(note)
		n.id, n.addr, n.len, n.flags = id, g.physical(b.off), uint32(b.len), flags|descAvail
	}
	taken(0, 2, bufs[2][0], descNext)
	taken(1, 2, bufs[2][1], 0)
	taken(2, 0, bufs[0][0], 0)
	n := r.note(0)
	n.inflight, n.last, n.num, n.counter = 1, 1, 2, 7
	n = r.note(2)
	n.inflight, n.last, n.num, n.counter = 1, 2, 1, 8
	clear(g.mem[q.desc:][:descLen])
	q.store32(q.desc+12, 1|(descAvail|descUsed)<<16)

	g.goOn(f)
	require.Equal(t, [][]byte{ether(60, 2), ether(60, 0), ether(60, 3)}, recv(t, p, 0, 3))
	for _, want := range []int{1, 2, 0, 3} {
		tag, _, ok := q.get()
		require.True(t, ok)
		require.Equal(t, want, tag)
	}
	require.Equal(t, 256, freeNotes(t, r, 256))
}

// Notes that no back-end writes are no notes: the ring begins where the front-end says.
func TestImpossibleNotes(t *testing.T) {
	for name, spoil := range map[string]func(r *inflightRing){
		"no descriptors":         func(r *inflightRing) { r.note(5).num = 0 },
		"too many descriptors":   func(r *inflightRing) { r.note(5).num = 200 },
		"descriptor of nobody":   func(r *inflightRing) { r.note(5).next, r.note(5).num = 9999, 2 },
		"id beyond the ring":     func(r *inflightRing) { r.note(5).id = 256 },
		"position beyond it":     func(r *inflightRing) { r.packed().used = 256 },
		"of another ring length": func(r *inflightRing) { r.packed().size = 128 },
	} {
		t.Run(name, func(t *testing.T) {
			path := socket(t)
			p := must(t, path, nil)
			g := newVM(t, vmConfig{features: allFeatures | featPacked})
			g.dial(path)
			g.negotiate()
			f := g.track()
			r := g.notes(f).ring(1)
			for i := range uint16(256) {
				r.note(i).next = i + 1
			}
			*r.packed() = inflightPacked{version: 1, size: 256, free: 6, oldFree: 6, used: 0, wrap: 1, oldWrap: 1}
			r.note(5).inflight, r.note(5).num = 1, 1
			spoil(r)
			g.goOn(f)
			g.fill(0)
			passes(t, p, g, 0)
			require.Equal(t, 256, freeNotes(t, r, 256))
		})
	}
}

// Whatever is in the buffer, each note is free or that of one chain.
func TestAnyNotes(t *testing.T) {
	const size = 16
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	small := func() uint16 { return uint16(rnd.IntN(size + 2)) }
	chains := 0
	for range 20_000 {
		f, fd, err := newInflight(1, size)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		r := f.ring(0)
		*r.packed() = inflightPacked{
			version: 1, size: size, free: small(), oldFree: small(), used: small(), oldUsed: small(), wrap: uint8(rnd.IntN(2)), oldWrap: uint8(rnd.IntN(2)),
		}
		for i := range uint16(size) {
			*r.note(i) = packedNote{inflight: uint8(rnd.IntN(2)), next: small(), last: small(), num: small() / 4, counter: uint64(small()), id: small()}
		}
		desc := make([]uint64, size*descLen/8)
		v := &ring{size: size, packed: true, desc: unsafe.Pointer(&desc[0]), inflight: r}
		v.resume()
		notes := slices.Clone(v.notes.free)
		for _, head := range v.resend {
			c := v.notes.chains[head]
			require.Less(t, c.id, uint16(size))
			require.Len(t, c.descs, len(c.notes))
			notes = append(notes, c.notes...)
			chains++
		}
		slices.Sort(notes)
		require.Len(t, notes, size)
		require.Len(t, slices.Compact(notes), size)
		f.unmap()
	}
	require.NotZero(t, chains)
}

// The device dies while it gives a batch back: it has written over descriptors, and the driver sees none of that, or
// all of it.
func TestDiesWhileGivingBack(t *testing.T) {
	for name, visible := range map[string]bool{"before the batch is visible": false, "before it is noted that the batch is visible": true} {
		for cut, layout := range map[string]layout{"": {}, ", many descriptors": {cuts: []int{12, 30, 500}}} {
			t.Run(name+cut, func(t *testing.T) {
				path := socket(t)
				p, err := Listen(path, nil)
				require.NoError(t, err)
				g := newVM(t, vmConfig{features: allFeatures | featPacked, layout: layout})
				g.dial(path)
				g.negotiate()
				f := g.track()
				r := g.notes(f).ring(1)
				g.goOn(f)
				g.fill(0)
				eventually(t, "no link", func() bool { return p.Link().Up })
				for range 30 { // past the end of the ring
					passes(t, p, g, 0)
				}
				g.reclaim(0)

				var want [][]byte
				for i := range 3 {
					want = append(want, ether(600, byte(i)))
					require.NoError(t, g.Put(portstest.Packet{Bytes: want[i]}))
				}
				b := ports.NewBatch(8)
				eventually(t, "no frames", func() bool {
					require.NoError(t, p.Rx(0).Recv(b))
					return b.Len() == 3
				})
				v := p.dev.rings[1]
				v.mu.Lock()
				r.publishing(v)
				if visible {
					v.publishPacked()
				} else {
					v.writeUsed()
				}
				v.mu.Unlock()
				require.NoError(t, p.Close())
				g.disconnect()
				require.Equal(t, visible, g.tx[0].more())

				p = must(t, path, nil)
				g.dial(path)
				g.negotiate()
				g.goOn(f)
				eventually(t, "no link", func() bool { return p.Link().Up })
				if !visible {
					require.Equal(t, want, recv(t, p, 0, 3))
				}
				for range 30 {
					passes(t, p, g, 0)
				}
				g.reclaim(0)
				require.Len(t, g.slots[0][1].free, 256, "chains that the driver has back")
				require.Equal(t, 256, freeNotes(t, r, 256))
			})
		}
	}
}

// A device in a process of its own is killed at any moment, again and again. What comes back to the guest is whole, the
// driver gets no buffer back twice, and in the end it has them all.
func TestIsKilledAtAnyMoment(t *testing.T) {
	for name, features := range map[string]uint64{"split": allFeatures, "packed": allFeatures | featPacked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kills := 25
			if testing.Short() {
				kills = 3
			}
			path := socket(t)
			g := newVM(t, vmConfig{features: features, size: 64, layout: layout{cuts: []int{12, 100}, rxLen: 400}})
			echo := func() int {
				p, ok := g.takeFrom(0)
				if !ok {
					return 0
				}
				seed := p.Bytes[20] - 20
				require.True(t, bytes.Equal(ether(len(p.Bytes), seed), p.Bytes), "a frame came back changed")
				return 1
			}
			var f *tracker
			sent, back := 0, 0
			for round := range kills + 1 {
				device := startDevice(t, path)
				dialUntil(t, g, path)
				g.negotiate()
				if f == nil {
					f = g.track()
				}
				g.goOn(f)
				if round == 0 {
					g.fill(0)
				}
				if round == kills {
					break
				}
				// The device is killed when it has given back so many frames and a little more.
				target := back + rand.IntN(100)
				killed := make(chan struct{})
				for end := time.Now().Add(3 * patience); ; {
					require.True(t, time.Now().Before(end), "nothing passes in round %d: %d sent, %d back", round, sent, back)
					if g.tryPut(0, portstest.Packet{Bytes: ether(60+rand.IntN(1300), byte(sent))}) {
						sent++
					}
					back += echo()
					if back >= target {
						break
					}
				}
				go func() {
					defer close(killed)
					time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
					device()
				}()
				for running := true; running; {
					select {
					case <-killed:
						running = false
					default:
					}
					if g.tryPut(0, portstest.Packet{Bytes: ether(60+rand.IntN(1300), byte(sent))}) {
						sent++
					}
					back += echo()
				}
				g.disconnect()
			}
			eventually(t, "the driver does not get its buffers back", func() bool {
				back += echo()
				g.reclaim(0)
				return len(g.slots[0][1].free) == g.size
			})
			for back += echo(); echo() > 0; back++ {
			}
			last := ether(777, 77)
			require.NoError(t, g.Put(portstest.Packet{Bytes: last}))
			p, ok := g.Take(patience)
			require.True(t, ok)
			require.Equal(t, last, p.Bytes)
			t.Logf("%d frames sent, %d came back, %d kills", sent, back, kills)
		})
	}
}

// startDevice starts a device in a process of its own and returns how to kill it.
func startDevice(t *testing.T, path string) (kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), beDevice+"="+path)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	kill = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	t.Cleanup(kill)
	return kill
}

// dialUntil connects to a device that may not listen yet.
func dialUntil(t *testing.T, g *vm, path string) {
	t.Helper()
	eventually(t, "the device does not listen", func() bool {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		g.conn = c
		return err == nil
	})
}

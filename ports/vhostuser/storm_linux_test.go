package vhostuser

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// stormEnv sets how often the guest of TestStorm writes to its rings.
const stormEnv = "HVSWITCH_STORM"

// A guest writes to its rings, its tables and its buffers at random and without pause, on processors of its own,
// while the switch works in them. The traffic of its neighbour passes as if nothing were.
func TestStorm(t *testing.T) {
	writes := uint64(4_000_000)
	if s := os.Getenv(stormEnv); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		writes = uint64(n)
	}
	for name, features := range map[string]uint64{"split": allFeatures, "packed": allFeatures | featPacked, "split by flags": allFeatures &^ featEventIdx} {
		t.Run(name, func(t *testing.T) { storm(t, features, writes/3) })
	}
}

func storm(t *testing.T, features, writes uint64) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	honest, neighbour := plug(t, nil, vmConfig{features: features})
	p, g := plug(t, nil, vmConfig{features: features, size: 16})
	before := openFiles(t)

	var written atomic.Uint64
	var guests sync.WaitGroup
	turns := []chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	for i, turn := range turns {
		guests.Go(func() { rage(rand.New(rand.NewPCG(seed, uint64(i))), g, &written, turn) })
	}
	stop := sync.OnceFunc(func() {
		for _, c := range turns {
			close(c)
		}
		guests.Wait()
	})
	t.Cleanup(stop)

	rnd := rand.New(rand.NewPCG(seed, 9))
	b := ports.NewBatch(32)
	wire := make([]byte, ports.MaxFrame+4)
	frames := []*ports.Frame{frame(ether(60, 0)), frame(ether(1500, 0)), frame(ether(200, 0))}
	var longest time.Duration
	var got, sent uint64
	for turn := 0; written.Load() < writes; turn++ {
		if turn%1024 == 0 {
			passes(t, honest, neighbour, 0)
		}
		if !p.Link().Up { // a ring is broken: the driver starts anew
			for _, q := range g.all() {
				g.stop(q)
				q.reset()
				g.start(q, q.firstBase())
			}
		}
		for _, c := range turns {
			select {
			case c <- struct{}{}:
			default: // it still writes
			}
		}
		runtime.Gosched() // where there is one processor only, the guests need it
		start := time.Now()
		require.NoError(t, p.Rx(0).Recv(b))
		for _, f := range b.Frames() {
			f.CopyTo(wire)
		}
		got += uint64(b.Len())
		b.Reset()
		p.Rx(0).Release()
		p.Rx(0).(ports.Notifier).Arm()
		n, err := p.Tx(0).Send(frames[:1+rnd.IntN(3)])
		if err != nil && !errors.Is(err, ports.ErrLinkDown) && !errors.Is(err, ports.ErrFrameSize) {
			t.Fatal(err)
		}
		sent += uint64(n)
		longest = max(longest, time.Since(start))
	}
	stop()
	broken := p.Stats().Broken
	t.Logf("%d writes, %d frames received, %d sent, %d rings broken, the longest turn took %v", written.Load(), got, sent, broken, longest)
	require.Less(t, longest, 5*time.Second, "a turn of the switch is bounded")
	require.True(t, broken > 0 && got > 0 && sent > 0, "the storm was none")
	require.Less(t, openFiles(t), before+8)
	for _, q := range g.all() {
		g.stop(q)
		q.reset()
		g.start(q, q.firstBase())
	}
	passes(t, honest, neighbour, 0)
}

// rage writes to what guest and switch share: descriptors, indices, flags, tables and headers, as bytes at random, as
// values that are nearly right, and as right ones, some of them in each turn of the switch.
func rage(r *rand.Rand, g *vm, written *atomic.Uint64, turns <-chan struct{}) {
	queues := g.all()
	for n, pause := uint64(0), 1; ; n++ {
		if pause--; pause == 0 { // so that some of it is still right when the switch looks
			pause = 1 + r.IntN(100)
			written.Add(uint64(pause))
			if _, more := <-turns; !more {
				return
			}
		}
		q := queues[r.IntN(len(queues))]
		desc := g.mem[q.desc+descLen*r.IntN(q.size):][:descLen]
		switch r.IntN(400) {
		default:
			le.PutUint64(desc, g.physical(r.IntN(len(g.mem)-2000)))
			le.PutUint32(desc[8:], uint32(30+r.IntN(1800)))
			flags := uint16(q.index+1) % 2 * descWrite // of a ring to receive on
			if q.packed {
				le.PutUint16(desc[12:], uint16(r.IntN(q.size)))
				le.PutUint16(desc[14:], flags|[]uint16{descAvail, descUsed}[r.IntN(2)])
			} else {
				le.PutUint16(desc[12:], flags)
			}
		case 0:
			desc[r.IntN(descLen)] = byte(r.Uint32())
		case 1:
			le.PutUint64(desc, g.physical(r.IntN(len(g.mem))))
		case 2:
			le.PutUint64(desc, []uint64{0, lowBase, highBase, lowBase - 1, highBase - 1, 1<<64 - 1, uint64(userBase)}[r.IntN(7)])
		case 3:
			le.PutUint32(desc[8:], []uint32{0, 1, 11, 12, 26, 60, 100, 1500, 65550, 1 << 20, 1<<32 - 1, 16, 32, 64}[r.IntN(14)])
		case 4:
			le.PutUint16(desc[12:], uint16(r.IntN(q.size+2)))
			le.PutUint16(desc[14:], uint16(r.Uint32()))
		case 5:
			le.PutUint16(desc[12:], uint16(r.IntN(8)))
		case 6:
			at := []int{q.avail, q.used}[r.IntN(2)]
			g.mem[at+r.IntN(6+2*q.size)] = byte(r.Uint32())
		case 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19: // go on as a driver does
			if !q.packed {
				le.PutUint16(g.mem[q.avail+2:], le.Uint16(g.mem[q.used+2:])+uint16(r.IntN(q.size+1)))
			}
		case 8:
			le.PutUint64(g.mem[g.slots[0][1].at+8*r.IntN(4):], r.Uint64())
		}
	}
}

package team_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// world is a team with its members on a switch that knows nothing of it: it learns addresses and floods
// what it does not know to all ports but that of the sender. Behind another of its ports are other hosts.
//
// Frames of both sides have a flow and a number, and are checked for duplicates and order as they arrive.
type world struct {
	*testing.T
	*team.Team
	rnd          *rand.Rand
	near         []*ports.PipeEnd
	far          []*ports.PipeEnd
	up           []bool
	fdb          map[ports.MAC]int // port of the switch; outside when it is not one of the team's
	flaps        int               // addresses that were seen on another port than before
	batch        *ports.Batch
	few          *ports.Batch
	copies       []*ports.Frame
	coming       [][]*ports.Frame // from the switch, by cable
	spare        []*ports.Frame
	sent         [2][maxFlow]int
	got          [2][maxFlow]int
	last         [2][maxFlow]int
	onWire       func(port int, f *ports.Frame)
	lag          int // how many rounds a frame may stay on a cable
	waited, late []int
	rarps        map[ports.MAC]int
}

// Directions of a flow.
const (
	outbound = iota
	inbound
)

const maxFlow = 4096

const outside = -1

func newWorld(t *testing.T, members int, cfg *team.Config) *world {
	w := &world{
		T: t, rnd: rand.New(rand.NewPCG(1, uint64(members))),
		fdb: map[ports.MAC]int{}, batch: ports.NewBatch(64), few: ports.NewBatch(8),
		rarps: map[ports.MAC]int{}, waited: make([]int, members), late: make([]int, members), coming: make([][]*ports.Frame, members),
	}
	var ms []team.Member
	for i := range members {
		a, b, err := ports.Pipe(&ports.PipeConfig{Depth: 1024, Speed: 1e9})
		require.NoError(t, err)
		w.near, w.far, w.up = append(w.near, a), append(w.far, b), append(w.up, true)
		ms = append(ms, team.Member{Backend: a, MAC: macOf(i)})
	}
	for range 64 {
		w.copies = append(w.copies, new(ports.Frame))
	}
	tm, err := team.New(ms, cfg)
	require.NoError(t, err)
	w.Team = tm
	t.Cleanup(func() { tm.Close() })
	return w
}

// numbered writes flow and number into a frame.
func numbered(f *ports.Frame, flow, number int) *ports.Frame {
	binary.BigEndian.PutUint32(f.Head()[42:], uint32(flow))
	binary.BigEndian.PutUint32(f.Head()[46:], uint32(number))
	return f
}

func flowOf(f *ports.Frame) int   { return int(binary.BigEndian.Uint32(f.Head()[42:])) }
func numberOf(f *ports.Frame) int { return int(binary.BigEndian.Uint32(f.Head()[46:])) }

// stamp gives a frame the next number of its flow.
func (w *world) stamp(way int, f *ports.Frame) *ports.Frame {
	flow := flowOf(f)
	w.sent[way][flow]++
	return numbered(f, flow, w.sent[way][flow])
}

func (w *world) arrived(way int, f *ports.Frame) {
	h := f.Head()
	if binary.BigEndian.Uint16(h[12:]) != 0x0800 {
		return // such as an announcement
	}
	flow, number := flowOf(f), numberOf(f)
	if last := w.last[way][flow]; number <= last {
		w.Fatalf("direction %d: frame %d of flow %d arrived after frame %d", way, number, flow, last)
	}
	w.last[way][flow] = number
	w.got[way][flow]++
}

// send sends frames of the own side, which must not be the same.
func (w *world) send(frames ...*ports.Frame) {
	for _, f := range frames {
		w.stamp(outbound, f)
	}
	n, err := w.Tx(0).Send(frames)
	if err != ports.ErrLinkDown {
		require.NoError(w, err)
		require.Equal(w, len(frames), n)
	}
}

// outsideSends sends a frame from a host that is not behind the team.
func (w *world) outsideSends(f *ports.Frame) { w.forward(outside, w.stamp(inbound, f)) }

// forward is the switch.
func (w *world) forward(from int, f *ports.Frame) {
	h := f.Head()
	dst, src := ports.MAC(h[:6]), ports.MAC(h[6:12])
	if was, known := w.fdb[src]; known && was != from {
		w.flaps++
	}
	w.fdb[src] = from
	if from != outside {
		if w.onWire != nil {
			w.onWire(from, f)
		}
		if binary.BigEndian.Uint16(h[12:]) == 0x8035 {
			w.rarps[src]++
		}
	}
	at, known := w.fdb[dst]
	if from != outside && (!known || at == outside) {
		w.arrived(outbound, f)
	}
	for i := range w.far {
		if i != from && w.up[i] && (!known || at == i) {
			w.coming[i] = append(w.coming[i], w.copyOf(f))
			if w.lag == 0 {
				w.deliver(i)
			}
		}
	}
}

func (w *world) copyOf(f *ports.Frame) *ports.Frame {
	c := new(ports.Frame)
	if n := len(w.spare); n > 0 {
		c, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	c.CopyFrom(f)
	return c
}

// deliver lets what the switch has sent on a cable arrive.
func (w *world) deliver(i int) {
	if n, err := w.far[i].Tx(0).Send(w.coming[i]); n != len(w.coming[i]) || err != nil && n > 0 {
		w.Fatal("the cable does not take all frames", n, err)
	}
	w.spare = append(w.spare, w.coming[i]...)
	w.coming[i] = w.coming[i][:0]
}

// carry takes what is on a cable to the switch.
func (w *world) carry(i int) {
	for {
		w.batch.Reset()
		_ = w.far[i].Rx(0).Recv(w.batch)
		frames := w.batch.Frames()
		for k, f := range frames {
			w.copies[k].CopyFrom(f)
		}
		n := len(frames)
		w.batch.Reset()
		w.far[i].Rx(0).Release()
		for _, f := range w.copies[:n] {
			w.forward(i, f)
		}
		if n == 0 {
			return
		}
	}
}

// receive takes a few batches from a queue of the team, as long as there are any.
func (w *world) receive(queue, batches int) {
	q := w.Rx(queue)
	for range batches {
		w.few.Reset()
		_ = q.Recv(w.few)
		n := w.few.Len()
		for _, f := range w.few.Frames() {
			w.arrived(inbound, f)
		}
		w.few.Reset()
		q.Release()
		if n == 0 {
			return
		}
	}
}

// round lets things move, some cables sooner than others but none later than lag allows, and time pass.
func (w *world) round(d time.Duration) {
	for i := range w.far {
		if w.late[i]++; w.late[i] > w.lag || w.rnd.IntN(3) == 0 {
			w.deliver(i)
			w.late[i] = 0
		}
	}
	for _, i := range w.rnd.Perm(len(w.far)) {
		if w.waited[i]++; w.waited[i] > w.lag || w.rnd.IntN(3) == 0 {
			w.carry(i)
			w.waited[i] = 0
		}
	}
	for q := range w.Info().RxQueues {
		w.receive(q, w.rnd.IntN(20))
	}
	time.Sleep(d)
}

// settle lets everything arrive.
func (w *world) settle() {
	for range 4 {
		for i := range w.far {
			w.carry(i)
			w.deliver(i)
		}
		for q := range w.Info().RxQueues {
			w.receive(q, 10000)
		}
		time.Sleep(time.Millisecond)
	}
}

// pull pulls a cable; what is on it has left before.
func (w *world) pull(i int) {
	w.carry(i)
	w.deliver(i)
	w.up[i] = false
	for mac, at := range w.fdb {
		if at == i {
			delete(w.fdb, mac)
		}
	}
	w.near[i].SetLink(false)
	w.carry(i)
	synctest.Wait()
}

func (w *world) plug(i int) {
	w.up[i] = true
	w.near[i].SetLink(true)
	synctest.Wait()
}

// lost returns how many frames did not arrive, and how many were sent.
func (w *world) lost() (lost, of int) {
	for way := range w.sent {
		for flow, n := range w.sent[way] {
			of += n
			lost += n - w.got[way][flow]
		}
	}
	return lost, of
}

func vnicOf(i int) ports.MAC { return ports.MAC{2, 0, 0, 0, 2, byte(i)} }
func hostOf(i int) ports.MAC { return ports.MAC{2, 0, 0, 0, 3, byte(i)} }

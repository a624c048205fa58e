package portstest

import (
	"bytes"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

// sampler names frames that lie in memory in every way there is, as far as the MTU allows.
func (r *Rig) sampler() ([]spec, []layout) {
	mtu := r.Backend.Info().MTU
	tag := []ports.Tag{{TPID: ports.TPID8021Q, TCI: 5<<13 | 100}}
	specs := []spec{
		{len: 46},
		{len: 46, tags: tag},
		{len: min(mtu, 242)}, // a head of ports.HeadLen bytes and no body
		{len: min(mtu, 243)}, // one byte of body
		{len: mtu},
		{len: mtu, tags: tag},
		{len: mtu - 1},
		{len: mtu - 1, tags: tag},
	}
	layouts := []layout{{}, {}, {cuts: []int{}}, {cuts: []int{}}, {cuts: []int{}}, {cuts: []int{100, 100}},
		{cuts: []int{1, 2, 3, 4, 5, 6, 7}}, {cuts: []int{1, 1, 1, 300, 1}}}
	for i := range specs {
		specs[i].seq = i
		if !r.has(Tags) {
			specs[i].tags = nil
		}
	}
	return specs, layouts
}

// sendKeepsNoFrame overwrites all memory of frames as soon as Send has returned.
func sendKeepsNoFrame(t *testing.T, r *Rig) {
	specs, layouts := r.sampler()
	for i, s := range specs {
		f := layouts[i].frame(s.wire())
		body := f.Body() // its segments may be written here: the test owns them
		r.send(t, 0, f)
		scribble(f.Head())
		for _, seg := range body {
			scribble(seg)
		}
		f.SetHead(make([]byte, 64), 0, 64)
		r.expect(t, s)
	}
}

func scribble(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}

// sendChangesNoFrame sends one batch of frames twice, as a flood does.
func sendChangesNoFrame(t *testing.T, r *Rig) {
	specs, layouts := r.sampler()
	n := min(len(specs), r.Depth)
	specs = specs[:n]
	fs := make([]*ports.Frame, n)
	were := make([]Packet, n)
	tags, lens := make([]ports.Tag, n), make([]int, n)
	for i, s := range specs {
		fs[i] = layouts[i].frame(s.wire())
		were[i], tags[i], lens[i] = packetOf(fs[i]), fs[i].VLAN, fs[i].Len()
	}
	list := append([]*ports.Frame(nil), fs...)
	for range 2 {
		r.send(t, 0, fs...)
		for i, f := range fs {
			if f != list[i] {
				t.Fatalf("Send changed element %d of the slice of frames", i)
			}
			is := packetOf(f)
			if !bytes.Equal(is.Bytes, were[i].Bytes) || is.Offload != were[i].Offload || f.VLAN != tags[i] || f.Len() != lens[i] {
				t.Fatalf("Send changed %v", specs[i])
			}
		}
		r.expect(t, specs...)
	}
}

// recvLendsUntilRelease holds on to frames while the peer goes on sending, more are received and others
// sent.
func recvLendsUntilRelease(t *testing.T, r *Rig) {
	mtu := r.Backend.Info().MTU
	depth := min(r.Depth, 256)
	for round := range 4 {
		held := max(1, depth/4)
		first := series(0, round*depth, held, mtu)
		second := series(0, round*depth+held, depth-held, mtu)
		in := r.all()

		r.put(t, first...)
		a := holdFrames(t, in, held)
		r.put(t, second...)
		lent := append(a, holdFrames(t, in, len(second))...)
		out := series(1, round*depth, min(depth, 4), mtu)
		r.send(t, 0, frames(out)...)
		r.expect(t, out...)
		for i, s := range append(first, second...) {
			if err := differ(packetOf(lent[i]).Bytes, s.wire()); err != nil {
				t.Fatalf("a frame was changed before Release: %v", err)
			}
		}
		for _, q := range in.queues {
			q.Release()
		}
	}
	in := r.all()
	s := spec{seq: 4 * depth}
	r.put(t, s)
	in.expect(t, s)
	for _, q := range in.queues {
		q.Release() // nothing is lent: does nothing
	}
	s.seq++
	r.put(t, s)
	in.expect(t, s)
}

// holdFrames receives n frames into a batch of their own and does not release them.
func holdFrames(t *testing.T, in *inbox, n int) []*ports.Frame {
	t.Helper()
	var held []*ports.Frame
	eventually(t, "frames do not arrive while others are lent", func() bool {
		for _, q := range in.queues {
			b := ports.NewBatch(n - len(held))
			if err := q.Recv(b); err != nil {
				t.Fatalf("Recv: %v", err)
			}
			for _, f := range b.Frames() {
				if ours(f.Head()) {
					held = append(held, f)
				}
			}
		}
		return len(held) >= n
	})
	return held
}

package portstest

import (
	"errors"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

func sendSegments(t *testing.T, r *Rig) {
	specs, layouts := r.sampler()
	for i, s := range specs {
		r.send(t, 0, layouts[i].frame(s.wire()))
		r.expect(t, s)
	}
}

// tagStacks are tags as they occur, outermost first.
var tagStacks = []struct {
	name string
	tags []ports.Tag
}{
	{"none", nil},
	{"VLAN 1", []ports.Tag{{TPID: ports.TPID8021Q, TCI: 1}}},
	{"VLAN 4094, priority 7, DEI", []ports.Tag{{TPID: ports.TPID8021Q, TCI: 0xfffe}}},
	{"priority tag", []ports.Tag{{TPID: ports.TPID8021Q, TCI: 3 << 13}}},
	{"all zero", []ports.Tag{{TPID: ports.TPID8021Q}}},
	{"service tag", []ports.Tag{{TPID: ports.TPID8021AD, TCI: 200}}},
	{"service and customer tag", []ports.Tag{{TPID: ports.TPID8021AD, TCI: 200}, {TPID: ports.TPID8021Q, TCI: 2<<13 | 30}}},
	{"two customer tags", []ports.Tag{{TPID: ports.TPID8021Q, TCI: 10}, {TPID: ports.TPID8021Q, TCI: 20}}},
}

func sendTags(t *testing.T, r *Rig) {
	r.need(t, Tags)
	for i, stack := range tagStacks {
		for _, inside := range []bool{false, true} {
			s := spec{seq: i, tags: stack.tags}
			r.send(t, 0, layout{inside: inside}.frame(s.wire()))
			if err := differ(r.take(t).Bytes, s.wire()); err != nil {
				t.Errorf("tags %q, outermost among the bytes: %t: %v", stack.name, inside, err)
			}
		}
	}
}

func recvTags(t *testing.T, r *Rig) {
	r.need(t, Tags)
	in := r.all()
	for i, stack := range tagStacks {
		s := spec{seq: i, tags: stack.tags}
		r.put(t, s)
		if err := differ(in.collect(t, 1)[0].Bytes, s.wire()); err != nil {
			t.Errorf("tags %q: %v", stack.name, err)
		}
	}
}

// A frame that does not fit is refused alone; whether it does is a matter of the payload behind the
// outermost tag.
func sendMTU(t *testing.T, r *Rig) {
	r.needDepth(t, 3)
	mtu := r.Backend.Info().MTU
	tag := []ports.Tag{{TPID: ports.TPID8021Q, TCI: 100}}
	for _, c := range []struct {
		name    string
		spec    spec
		inside  bool
		refused bool
	}{
		{name: "MTU", spec: spec{len: mtu}},
		{name: "MTU and tag beside", spec: spec{len: mtu, tags: tag}},
		{name: "MTU and tag inside", spec: spec{len: mtu, tags: tag}, inside: true},
		{name: "MTU+1", spec: spec{len: mtu + 1}, refused: true},
		{name: "MTU+1 and tag beside", spec: spec{len: mtu + 1, tags: tag}, refused: true},
		{name: "MTU+1 and tag inside", spec: spec{len: mtu + 1, tags: tag}, inside: true, refused: true},
		{name: "64 KiB", spec: spec{len: 1 << 16}, refused: true},
		{name: "1 MiB", spec: spec{len: 1 << 20}, refused: true},
	} {
		for _, cuts := range [][]int{nil, {mtu / 2, 10}} {
			l := layout{inside: c.inside, cuts: cuts}
			f := l.frame(c.spec.wire())
			if !c.refused && f.Len() > ports.MaxFrame || c.spec.tags != nil && !r.has(Tags) {
				continue
			}
			r.sendAmongOthers(t, c.name, f, c.spec.wire(), c.refused, ports.ErrFrameSize)
		}
	}
}

// sendAmongOthers sends f between two other frames. It must be refused with that error and the others
// sent, or all three.
func (r *Rig) sendAmongOthers(t *testing.T, name string, f *ports.Frame, wire []byte, refused bool, with error) {
	t.Helper()
	before, after := spec{seq: 1001}, spec{seq: 1002}
	fs := frames([]spec{before, after})
	for _, batch := range [][]*ports.Frame{{f}, {f, fs[1]}, {fs[0], f, fs[1]}, {f, f, fs[1]}} {
		for rest := batch; len(rest) > 0; {
			n, err := r.Backend.Tx(0).Send(rest)
			want := len(rest)
			if refused {
				for want = 0; want < len(rest) && rest[want] != f; {
					want++
				}
			}
			if n != want || (n == len(rest)) != (err == nil) || (err != nil && !errors.Is(err, with)) {
				t.Fatalf("%s: Send of %d frames took %d, error %v; want %d and, if that is not all, %v",
					name, len(rest), n, err, want, with)
			}
			for _, sent := range rest[:n] {
				looks := wire
				switch sent {
				case fs[0]:
					looks = before.wire()
				case fs[1]:
					looks = after.wire()
				}
				if err := differ(r.take(t).Bytes, looks); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			rest = rest[min(n+1, len(rest)):]
		}
	}
}

func recvMTU(t *testing.T, r *Rig) {
	mtu := r.Backend.Info().MTU
	in := r.all()
	for seq, s := range []spec{
		{len: mtu},
		{len: mtu, tags: []ports.Tag{{TPID: ports.TPID8021Q, TCI: 100}}},
		{len: mtu - 1},
		{len: 8},
	} {
		if etherLen+len(s.tags)*tagLen+s.len > ports.MaxFrame || s.tags != nil && !r.has(Tags) {
			continue
		}
		s.seq = seq
		r.put(t, s)
		in.expect(t, s)
	}
}

// A frame without a whole Ethernet header is refused or sent as it is; the others go on.
func sendRunts(t *testing.T, r *Rig) {
	r.needDepth(t, 2)
	whole := spec{seq: 1}.wire()
	for n := range etherLen {
		for _, tag := range []ports.Tag{{}, {TPID: ports.TPID8021Q, TCI: 100}} {
			runt := layout{}.frame(whole[:n])
			runt.VLAN = tag
			after := spec{seq: 100 + n}
			fs := append([]*ports.Frame{runt}, frames([]spec{after})...)
			switch k, err := r.Backend.Tx(0).Send(fs); {
			case k == 2 && err == nil:
			case k == 0 && errors.Is(err, ports.ErrFrameSize):
				r.send(t, 0, fs[1])
			default:
				t.Fatalf("%d bytes and a frame: Send took %d, error %v; want both, or 0 and %v", n, k, err, ports.ErrFrameSize)
			}
			for {
				p := r.take(t)
				if s, ok := read(p.Bytes); ok {
					if err := differ(p.Bytes, after.wire()); err != nil {
						t.Fatalf("frame after one of %d bytes: %v (%v)", n, err, s)
					}
					break
				}
			}
		}
	}
	// The shortest frame there is: a header and nothing behind it.
	header := spec{}.wire()[:etherLen]
	r.send(t, 0, layout{}.frame(header))
	if p := r.take(t); !same(p.Bytes, header) {
		t.Errorf("a header without payload arrived as %x", p.Bytes)
	}
}

func recvRunts(t *testing.T, r *Rig) {
	r.need(t, Runts)
	r.needDepth(t, 2)
	in := r.all()
	whole := spec{}.wire()
	for n := range etherLen {
		r.putPacket(t, Packet{Bytes: whole[:n]})
		after := spec{seq: n}
		r.put(t, after)
		eventually(t, "a frame after a runt does not arrive", func() bool {
			got, err := in.poll()
			if err != nil {
				t.Fatalf("Recv after %d bytes: %v", n, err)
			}
			for _, p := range got {
				if _, ok := read(p.Bytes); !ok {
					continue
				}
				if err := differ(p.Bytes, after.wire()); err != nil {
					t.Fatalf("after %d bytes: %v", n, err)
				}
				return true
			}
			return false
		})
	}
}

package extension_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// everyKind returns a list with two extensions of each kind but forwarding, not sorted by kind, which write what
// they do into the diary.
func (s *stage) everyKind() []binding {
	say := func(name string) func(*batch) { return func(b *batch) { s.diary.add("%s", name) } }
	wall := func(name string) *firewall {
		return &firewall{func(*extension.Connection) bool { s.diary.add("%s", name); return true }}
	}
	return []binding{
		{Name: "wall 1", Extension: wall("wall 1")},
		{Name: "filter 1", Extension: &filter{say("filter 1")}},
		{Name: "forwarding", Extension: &forwarding{say("forwarding")}},
		{Name: "capture 1", Extension: &historian{say("capture 1"), say("fate 1")}},
		{Name: "filter 2", Extension: &filter{say("filter 2")}},
		{Name: "wall 2", Extension: wall("wall 2")},
		{Name: "capture 2", Extension: &historian{say("capture 2"), say("fate 2")}},
	}
}

func TestTheOrderIsThatOfKindsThenOfTheList(t *testing.T) {
	s := newStage(t)
	s.use(s.everyKind()...)
	a, b := s.connect("a", 0), s.connect("b", 1)
	s.show(extension.Ingress, a, udp(1, 2))
	require.Equal(t, []string{
		"capture 1", "capture 2", "filter 1", "filter 2", "wall 1", "wall 2", "forwarding", "fate 1", "fate 2",
	}, s.diary.take())
	s.show(extension.Egress, b, udp(1, 2))
	require.Equal(t, []string{
		"wall 2", "wall 1", "filter 2", "filter 1", "capture 2", "capture 1", "fate 1", "fate 2",
	}, s.diary.take())

	list := s.everyKind()
	for i := range list {
		list[i].Disabled = list[i].Name != "filter 2"
	}
	s.use(list...)
	s.show(extension.Ingress, a, udp(1, 2))
	require.Equal(t, []string{"filter 2"}, s.diary.take())
	list[4].Disabled = true
	s.use(list...)
	require.Nil(t, s.stack.Program(a))
}

func TestAnInjectedFramePassesFiltersBehindItsSenderAndForwarding(t *testing.T) {
	s := newStage(t)
	list := s.everyKind()
	s.use(list...)
	inject := func(name string) []string {
		b := new(batch)
		show(s.stack.Injection(name), b, extension.Ingress, nil, 0, []*ports.Frame{udp(1, 2)})
		require.Nil(t, b.Port())
		require.Nil(t, b.Source())
		return s.diary.take()
	}
	require.Equal(t, []string{"filter 1", "filter 2", "forwarding"}, inject("wall 1"))
	require.Equal(t, []string{"filter 2", "forwarding"}, inject("filter 1"))
	require.Equal(t, []string{"forwarding"}, inject("filter 2"))
	list[4].Disabled = true
	s.use(list...)
	require.Equal(t, []string{"forwarding"}, inject("filter 1"))
}

func TestOnlyTheRightKindsHaveASay(t *testing.T) {
	other := &extension.Port{Name: "other", Index: 9}
	meddle := func(b *batch) {
		b.Edit(1).Head()[14] = 'X'
		b.Send(2, other)
		b.Drop(0, "meddled")
	}
	for _, c := range []struct {
		name                 string
		extension            any
		drops, edits, sends  bool
		dropsOut, reasonText string
	}{
		{"capture", &capture{meddle}, false, false, false, "", ""},
		{"fate", &historian{idle, meddle}, false, false, false, "", ""},
		{"filter", &filter{meddle}, true, true, false, "", "it: meddled"},
		{"forwarding", &forwarding{meddle}, true, false, true, "", "it: meddled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			s.use(binding{Name: "it", Extension: c.extension})
			p := s.connect("p", 0)
			frames := textFrames("drop", "edit", "send")
			b := s.show(extension.Ingress, p, frames...)
			g := s.stack.Program(p)
			require.Equal(t, !c.drops, b.Alive(0))
			require.Equal(t, c.reasonText, b.Reason(0))
			want := "edit"
			if c.edits {
				want = "Xdit"
			}
			require.Equal(t, want, textOf(frames[1]))
			require.Equal(t, want, textOf(b.Frame(1)))
			sent := []string{}
			for i, port := range g.Targets(b) {
				sent = append(sent, fmt.Sprint(i, port))
			}
			if c.sends {
				require.Equal(t, []string{"2 9"}, sent)
				require.EqualValues(t, 1<<2, g.Chosen(b))
			} else {
				require.Empty(t, sent)
				require.Zero(t, g.Chosen(b))
			}
			if c.drops {
				require.EqualValues(t, 1, s.stack.Status()[0].Dropped)
			}
		})
	}
}

func TestNothingChangesOfADroppedFrame(t *testing.T) {
	s := newStage(t)
	s.use(
		binding{Name: "one", Extension: &filter{dropAll("by one")}},
		binding{Name: "two", Extension: &filter{func(b *batch) { t.Error("nobody is left to filter") }}},
	)
	p := s.connect("p", 0)
	b := s.show(extension.Ingress, p, textFrame("x"))
	require.Equal(t, "one: by one", b.Reason(0))

	s.use(binding{Name: "one", Extension: &filter{func(b *batch) {
		b.Drop(0, "first")
		require.Equal(t, "one: first", b.Reason(0), "already")
		b.Drop(0, "second")
		b.Edit(0).Head()[14] = 'X'
	}}}, binding{Name: "two", Extension: &filter{func(b *batch) {
		require.Equal(t, "one: first", b.Reason(0))
		require.Empty(t, b.Reason(1))
		b.Drop(0, "third")
		b.Drop(1, "late")
	}}})
	frames := textFrames("a", "b")
	b = s.show(extension.Ingress, p, frames...)
	require.Equal(t, "one: first", b.Reason(0))
	require.Equal(t, "two: late", b.Reason(1))
	require.Equal(t, "a", textOf(frames[0]))
	require.Equal(t, []uint64{1, 1}, []uint64{s.stack.Status()[0].Dropped, s.stack.Status()[1].Dropped})
}

func TestReasonsAreNotThoseOfAnEarlierBatch(t *testing.T) {
	s := newStage(t)
	drops := true
	f := &filter{func(b *batch) {
		if drops {
			b.Drop(0, "mine")
		}
	}}
	s.use(binding{Name: "f", Extension: f})
	p := s.connect("p", 0)
	g, b := s.stack.Program(p), new(batch)
	show(g, b, extension.Ingress, p, 0, textFrames("a"))
	require.Equal(t, "f: mine", b.Reason(0))
	drops = false
	g.Begin(b, extension.Ingress, p, 0, textFrames("b", "c"), 2)
	g.Drop(b, 0, "spoofed source")
	g.Ingress(b)
	require.Equal(t, "spoofed source", b.Reason(0))
	require.Empty(t, b.Reason(1))
}

func TestAnEditOnEgressIsForThePortAlone(t *testing.T) {
	for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
		t.Run(d.String(), func(t *testing.T) {
			s := newStage(t)
			change := func(at int) func(*batch) {
				return func(b *batch) {
					for i := range b.Len() {
						if i != 1 {
							f := b.Edit(i)
							require.Same(t, f, b.Edit(i))
							require.Same(t, f, b.Frame(i))
							f.Head()[14+at]++
							f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 7}
						}
					}
				}
			}
			s.use(binding{Name: "one", Extension: &filter{change(0)}}, binding{Name: "two", Extension: &filter{change(1)}})
			p := s.connect("p", 0)
			g, b := s.stack.Program(p), new(batch)
			frames := textFrames("aa", "aa", "aa")
			for round := range 2 { // the memory of forks is used again
				of := append([]*ports.Frame(nil), frames...)
				show(g, b, d, p, 0, of)
				got := textOf(b.Frame(0)) + textOf(b.Frame(1)) + textOf(b.Frame(2))
				if d == extension.Egress {
					require.Equal(t, "bbaabb", got)
					require.Equal(t, "aaaaaa", textOf(frames[0])+textOf(frames[1])+textOf(frames[2]))
					require.Zero(t, frames[0].VLAN)
				} else {
					require.Equal(t, []string{"bbaabb", "ccaacc"}[round], got)
					require.Same(t, frames[0], b.Frame(0))
				}
				require.EqualValues(t, 7, b.Frame(0).VLAN.VID())
				require.EqualValues(t, 0b101, g.Edited(b))
			}
		})
	}
}

func TestAnEditThatLeavesNoFrameIsDroppedBeforeOthersSeeIt(t *testing.T) {
	for reason, edit := range map[string]func(f *ports.Frame){
		"edited into a runt":                func(f *ports.Frame) { f.TrimFront(5) },
		"edited into a bad offload request": func(f *ports.Frame) { f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 9000} },
	} {
		for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
			s := newStage(t)
			bad := binding{Name: "bad", Extension: &filter{func(b *batch) { edit(b.Edit(0)) }}}
			next := binding{Name: "next", Extension: &filter{func(b *batch) {
				if b.Alive(0) {
					t.Error("it was shown")
				}
			}}}
			list := []binding{bad, next}
			if d == extension.Egress {
				list = []binding{next, bad}
			}
			s.use(list...)
			b := s.show(d, s.connect("p", 0), textFrames("", "other")...)
			require.Equal(t, "bad: "+reason, b.Reason(0))
			require.True(t, b.Alive(1))
		}
	}
}

func TestSend(t *testing.T) {
	port := func(name string, index int) *extension.Port { return &extension.Port{Name: name, Index: index} }
	a, b, c := port("a", 0), port("b", 1), port("c", 2)
	connected := map[int]*extension.Port{0: a, 1: b, 2: c}
	for _, test := range []struct {
		name string
		do   func(x *batch)
		want string
	}{
		{"one", func(x *batch) { x.Send(0, b) }, "[0]: 0→1"},
		{"several", func(x *batch) { x.Send(0, c, b); x.Send(1, b) }, "[0 1]: 0→2 0→1 1→1"},
		{"none", func(x *batch) { x.Send(0) }, "[0]:"},
		{"nobody", func(x *batch) { x.Send(0, nil) }, "[0]:"},
		{"back", func(x *batch) { x.Send(0, a) }, "[0]:"},
		{"back, by old settings", func(x *batch) { x.Send(0, port("a", 0)) }, "[0]:"},
		{"twice", func(x *batch) { x.Send(0, b, c, b, port("b", 1)) }, "[0]: 0→1 0→2"},
		{"the last counts", func(x *batch) { x.Send(0, b); x.Send(1, c); x.Send(0, c) }, "[0 1]: 1→2 0→2"},
		{"dropped later", func(x *batch) { x.Send(0, b); x.Send(1, b); x.Drop(0, "x") }, "[1]: 1→1"},
		{"dropped before", func(x *batch) { x.Drop(0, "x"); x.Send(0, b) }, "[]:"},
		{"disconnected", func(x *batch) { x.Send(0, port("d", 3)) }, "[0]:"},
		{"its index is another's now", func(x *batch) { x.Send(0, port("d", 1), b) }, "[0]: 0→1"},
		{"of another switch", func(x *batch) { x.Send(0, &extension.Port{Switch: "other", Name: "b", Index: 1}) }, "[0]:"},
		{"impossible", func(x *batch) { x.Send(0, port("b", -1), port("b", 1<<40)) }, "[0]:"},
		{"other settings", func(x *batch) { x.Send(0, &extension.Port{Name: "b", Index: 1, MTU: 9000}) }, "[0]: 0→1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			s.use(binding{Name: "it", Extension: &forwarding{test.do}})
			p := s.connect("p", 0)
			g, x := s.stack.Program(p), new(batch)
			require.True(t, g.Decides())
			g.Begin(x, extension.Ingress, a, 0, textFrames("0", "1"), 3)
			g.Forward(x)
			g.Resolve(x, func(i int) *extension.Port { return connected[i] })
			chosen := []int{}
			for i := range 2 {
				if g.Chosen(x)>>i&1 != 0 {
					chosen = append(chosen, i)
				}
			}
			got := fmt.Sprint(chosen, ":")
			for i, to := range g.Targets(x) {
				got += fmt.Sprintf(" %d→%d", i, to)
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestABatchForTestsCanBeFull(t *testing.T) {
	var frames []*ports.Frame
	for range extension.MaxBatch {
		frames = append(frames, textFrame("x"))
	}
	b := extension.NewBatch(extension.Ingress, &extension.Port{}, nil, "state", frames...)
	require.True(t, b.Alive(63))
	b.Drop(63, "why")
	require.Equal(t, "why", b.Reason(63))
	require.True(t, b.Alive(62))
	require.Equal(t, "state", b.State())
	b.Edit(5).Head()[14] = 'y'
	require.Equal(t, "y", textOf(frames[5]))
}

func TestProgramsRunWhileTheStackChanges(t *testing.T) {
	s := newStage(t)
	p := s.connect("p", 0)
	fails := &filter{func(b *batch) {
		if b.Len() == 3 {
			panic("three")
		}
	}}
	list := []binding{
		{Name: "edit", Extension: &filter{func(b *batch) { b.Edit(0) }}},
		{Name: "fails", Extension: fails, FailOpen: true},
		{Name: "wall", Extension: &firewall{func(c *extension.Connection) bool { return c.Remote.Port()%2 == 0 }}},
		{Name: "capture", Extension: &historian{idle, idle}},
		{Name: "decide", Extension: &forwarding{func(b *batch) { b.Send(0, p) }}},
	}
	s.use(list...)
	var mu sync.Mutex
	current := s.stack.Program(p)
	done := make(chan struct{})
	var workers sync.WaitGroup
	for n := range 4 {
		workers.Go(func() {
			x := new(batch)
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				g := current
				mu.Unlock()
				frames := []*ports.Frame{udp(1, uint16(n)), udp(uint16(i%100), 2), udp(3, 4)}
				show(g, x, extension.Direction(i%2), p, 0, frames[:1+i%3])
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		next := append([]binding(nil), list...)
		r.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		for i := range next {
			next[i].Disabled = r.IntN(3) == 0
		}
		next = next[:1+r.IntN(len(next))]
		c, err := s.change(append(next, binding{Name: "keep", Extension: &capture{idle}})...)
		require.NoError(t, err)
		c.Apply()
		mu.Lock()
		current = s.stack.Program(p)
		mu.Unlock()
		c.Retire()
		s.stack.Status()
		s.stack.Reauthorize()
	}
	close(done)
	workers.Wait()
}

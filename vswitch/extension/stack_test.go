package extension_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

type byValue struct{ list any }

func (byValue) Capture(*batch) {}

func TestAListThatCannotBe(t *testing.T) {
	f, w := &forwarding{idle}, &forwarding{idle}
	c := &capture{idle}
	for _, test := range []struct {
		list []binding
		want string
	}{
		{[]binding{{Extension: c}}, "extension without a name"},
		{[]binding{{Name: "a", Extension: c}, {Name: "a", Extension: f}}, `extension "a": there is another of that name`},
		{[]binding{{Name: "a"}}, `extension "a": <nil> is of no kind of extension`},
		{[]binding{{Name: "a", Extension: 7}}, `extension "a": int is of no kind of extension`},
		{[]binding{{Name: "a", Extension: f}, {Name: "b", Extension: w}}, `extension "b": "a" decides where frames go already`},
		{[]binding{{Name: "a", Extension: byValue{[]int{1}}}}, `extension "a": extension_test.byValue cannot be told from another: use a pointer`},
		{[]binding{{Name: "a", Extension: byValue{1}}}, ""},
		{[]binding{{Name: "a", Extension: f}, {Name: "b", Extension: w, Disabled: true}}, ""},
	} {
		s := newStage(t)
		before := s.resident("before")
		s.use(binding{Name: "before", Extension: before})
		s.diary.take()
		started := s.resident("new")
		ch, err := s.change(append([]binding{{Name: "new", Extension: started}}, test.list...)...)
		if test.want == "" {
			require.NoError(t, err)
			ch.Cancel()
			require.Equal(t, []string{"new: start", "new: stop"}, s.diary.take())
			continue
		}
		require.EqualError(t, err, test.want)
		require.Empty(t, s.diary.take(), "nobody was started in vain")
		require.Equal(t, "before", s.stack.Status()[0].Name)
	}
	require.NoError(t, extension.Check([]binding{{Name: "a", Extension: f}}, []binding{{Name: "b", Extension: w}}), "what is in front only sees")
}

func TestWhatIsInFrontOnlySees(t *testing.T) {
	s := newStage(t)
	both := &struct {
		*capture
		*filter
	}{&capture{func(b *batch) { b.Drop(0, "as a capture") }}, &filter{dropAll("as a filter")}}
	c, err := s.stack.Change([]binding{{Name: "both", Extension: both}}, nil, newHandle)
	require.NoError(t, err)
	c.Apply()
	c.Retire()
	require.Equal(t, []extension.Status{{Name: "both", Kinds: extension.KindCapture}}, s.stack.Status())
	require.True(t, s.show(extension.Ingress, s.connect("p", 0), textFrame("x")).Alive(0))
}

func TestALifeOnASwitch(t *testing.T) {
	s := newStage(t)
	one, two := s.resident("one"), s.resident("two")
	first, second := binding{Name: "one", Extension: one}, binding{Name: "two", Extension: two}
	step := func(what string, want ...string) {
		t.Helper()
		require.Equal(t, want, s.diary.take(), what)
	}
	s.use(first)
	step("added", "one: start")
	p := s.connect("a", 0)
	step("connected", "one: connect a")
	s.use(first, second)
	step("another", "two: start", "two: connect a")
	s.show(extension.Ingress, p, textFrame("x"))
	s.show(extension.Egress, p, textFrame("x"))
	require.Equal(t, []any{"state of a", "state of a"}, one.seen)

	s.use(second, first)
	step("reordered")
	first.Disabled, second.FailOpen = true, true
	s.use(second, first)
	step("disabled")
	first.Disabled = false
	s.use(second, first)
	step("enabled")
	require.Equal(t, []extension.Status{{Name: "two", Kinds: extension.KindFilter}, {Name: "one", Kinds: extension.KindFilter}}, s.stack.Status())

	q := &extension.Port{Name: "a", Index: 0, MTU: 9000}
	require.NoError(t, s.stack.Replace(q))
	step("changed", "two: change a from 0 to 9000, state of a", "one: change a from 0 to 9000, state of a")
	require.Same(t, q, s.stack.Port(0))

	first.Name = "uno"
	s.use(second, first)
	step("renamed", "one: start", "one: connect a", "one: disconnect a, state of a", "one: stop")
	s.show(extension.Egress, q, textFrame("x"))
	require.Len(t, one.seen, 3)

	s.use(first)
	step("removed", "two: disconnect a, state of a", "two: stop")
	s.stack.Disconnect(q)
	step("disconnected", "one: disconnect a, state of a")
	require.Nil(t, s.stack.Port(0))
	s.connect("b", 0)
	s.stack.Close()
	step("closed", "one: connect b", "one: disconnect b, state of b", "one: stop")
	require.Empty(t, s.stack.Status())
}

func TestAChangeThatIsNone(t *testing.T) {
	s := newStage(t)
	one := binding{Name: "one", Extension: s.resident("one")}
	s.use(one)
	for changes, list := range map[bool][]binding{
		false: {one},
		true:  {{Name: "one", Extension: one.Extension, FailOpen: true}},
	} {
		c, err := s.change(list...)
		require.NoError(t, err)
		require.Equal(t, changes, c.Changes())
		c.Cancel()
	}
	require.Equal(t, []string{"one: start"}, s.diary.take())
}

func TestACancelledChangeLeavesTheListAlone(t *testing.T) {
	s := newStage(t)
	one, two := binding{Name: "one", Extension: s.resident("one")}, binding{Name: "two", Extension: s.resident("two")}
	s.use(one)
	s.connect("a", 0)
	s.diary.take()
	one.Disabled = true
	c, err := s.change(two, one)
	require.NoError(t, err)
	require.True(t, c.Changes())
	c.Cancel()
	require.Equal(t, []string{"two: start", "two: connect a", "two: disconnect a, state of a", "two: stop"}, s.diary.take())
	require.Equal(t, []extension.Status{{Name: "one", Kinds: extension.KindFilter}}, s.stack.Status())
}

func TestAVetoUndoesWhatOthersHaveGranted(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  string
		do   func(s *stage, list []binding) error
		want string
		said []string
	}{
		{"start", "start", func(s *stage, list []binding) error { _, err := s.change(list...); return err },
			`extension "two": not here`,
			[]string{"one: start", "one: connect a", "two: start", "one: disconnect a, state of a", "one: stop"}},
		{"connect of one that is new", "connect a", func(s *stage, list []binding) error { _, err := s.change(list...); return err },
			`extension "two": port "a": not here`,
			[]string{"one: start", "one: connect a", "two: start", "two: connect a", "two: stop", "one: disconnect a, state of a", "one: stop"}},
		{"connect", "connect b", func(s *stage, list []binding) error {
			s.use(list...)
			s.diary.take()
			return s.stack.Connect(&extension.Port{Name: "b", Index: 1}, nil)
		}, `extension "two": not here`, []string{"one: connect b", "two: connect b", "one: disconnect b, state of b"}},
		{"change", "change a from 0 to 9, state of a", func(s *stage, list []binding) error {
			s.use(list...)
			s.diary.take()
			return s.stack.Replace(&extension.Port{Name: "a", Index: 0, MTU: 9})
		}, `extension "two": not here`,
			[]string{"one: change a from 0 to 9, state of a", "two: change a from 0 to 9, state of a", "one: change a from 9 to 0, state of a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			p := s.connect("a", 0)
			one, two, three := s.resident("one"), s.resident("two"), s.resident("three")
			two.bad, two.fail = c.bad, veto
			list := []binding{{Name: "one", Extension: one}, {Name: "two", Extension: two}, {Name: "three", Extension: three}}
			err := c.do(s, list)
			require.EqualError(t, err, c.want)
			require.ErrorIs(t, err, errVeto)
			require.Equal(t, c.said, s.diary.take())
			require.Same(t, p, s.stack.Port(0))
			require.Nil(t, s.stack.Port(1))
		})
	}
}

func TestAPortThatAnExtensionSkips(t *testing.T) {
	s := newStage(t)
	one, two := s.resident("one"), s.resident("two")
	one.bad, one.fail = "connect a", func() error { return extension.ErrSkip }
	list := []binding{{Name: "one", Extension: one}}
	s.use(list...)
	a, b := s.connect("a", 0), s.connect("b", 1)
	require.Nil(t, s.stack.Program(a))
	require.NotNil(t, s.stack.Program(b))
	list = append(list, binding{Name: "two", Extension: two})
	s.use(list...)
	s.show(extension.Ingress, a, textFrame("x"))
	require.Empty(t, one.seen)
	require.Len(t, two.seen, 1)
	s.diary.take()
	require.NoError(t, s.stack.Replace(a))
	s.stack.Disconnect(a)
	require.Equal(t, []string{"two: change a from 0 to 0, state of a", "two: disconnect a, state of a"}, s.diary.take())
}

func TestStateMoves(t *testing.T) {
	from, to := newStage(t), newStage(t)
	list := func(s *stage) []binding {
		return []binding{
			{Name: "moves", Extension: &mover{*s.resident("moves")}},
			{Name: "stays", Extension: s.resident("stays")},
			{Name: "moves, too", Extension: &mover{*s.resident("too")}},
		}
	}
	from.use(list(from)...)
	there := list(to)
	to.use(there[0], there[1], binding{Name: "new", Extension: &mover{*to.resident("new")}})
	p := from.connect("a", 0)
	saved, err := from.stack.Save(p)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"moves": []byte("saved state of a"), "moves, too": []byte("saved state of a")}, saved)

	to.diary.take()
	a := &extension.Port{Name: "a", Index: 5}
	require.NoError(t, to.stack.Connect(a, saved))
	require.Equal(t, []string{"moves: restore a", "stays: connect a", "new: connect a"}, to.diary.take())
	to.show(extension.Ingress, a, textFrame("x"))
	require.Equal(t, []any{"restored saved state of a"}, there[0].Extension.(*mover).seen)

	b := &extension.Port{Name: "b", Index: 6}
	require.NoError(t, to.stack.Connect(b, map[string][]byte{"moves": nil, "stays": {1}}))
	require.Equal(t, []string{"moves: restore b", "stays: connect b", "new: connect b"}, to.diary.take(), "to save nothing is to save")

	bad := there[0].Extension.(*mover)
	bad.bad, bad.fail = "restore c", veto
	require.ErrorIs(t, to.stack.Connect(&extension.Port{Name: "c", Index: 7}, saved), errVeto)
	bad.bad = "save a"
	_, err = to.stack.Save(a)
	require.EqualError(t, err, `extension "moves": not here`)
}

func explode() error { panic("boom") }

func TestAPanicOnTheWayOfFrames(t *testing.T) {
	boom := func(b *batch) {
		if b.Alive(0) {
			explode()
		}
	}
	for name, c := range map[string]struct {
		extension any
		capture   bool
		sides     []extension.Direction
	}{
		"Capture":   {&capture{boom}, true, []extension.Direction{extension.Ingress, extension.Egress}},
		"Fate":      {&historian{idle, boom}, true, []extension.Direction{extension.Ingress, extension.Egress}},
		"Filter":    {&filter{boom}, false, []extension.Direction{extension.Ingress, extension.Egress}},
		"Forward":   {&forwarding{boom}, false, []extension.Direction{extension.Ingress}},
		"Authorize": {&firewall{func(*extension.Connection) bool { panic("boom") }}, false, []extension.Direction{extension.Ingress, extension.Egress}},
	} {
		for _, open := range []bool{false, true} {
			for _, side := range c.sides {
				t.Run(name+map[bool]string{false: ", closed, ", true: ", open, "}[open]+side.String(), func(t *testing.T) {
					s := newStage(t)
					bad := binding{Name: "bad", Extension: c.extension, FailOpen: open}
					calm := binding{Name: "calm", Extension: &capture{idle}}
					s.use(calm, bad)
					p := s.connect("p", 0)
					for range 3 {
						b := s.show(side, p, udp(1, 2), udp(3, 4))
						passes := open || c.capture
						require.Equal(t, passes, b.Alive(0))
						require.Equal(t, passes, b.Alive(1))
						if !passes {
							require.Equal(t, "bad: failed", b.Reason(1))
						}
					}
					require.Equal(t, []string{"bad: panic: boom"}, s.reports, "told once")
					require.Equal(t, "boom", s.stack.Status()[1].Failure)
					require.Empty(t, s.stack.Status()[0].Failure)
					bad.FailOpen = !open
					s.use(calm, bad)
					require.Equal(t, "boom", s.stack.Status()[1].Failure, "it was not disabled")

					bad.Disabled = true
					s.use(calm, bad)
					require.True(t, s.show(side, p, udp(1, 2)).Alive(0))
					require.Empty(t, s.stack.Status()[1].Failure)
					bad.Disabled = false
					s.use(calm, bad)
					s.show(side, p, udp(1, 2))
					require.Len(t, s.reports, 2, "it has been enabled anew")
				})
			}
		}
	}
}

func TestAPanicAtAnOccasion(t *testing.T) {
	p := &extension.Port{Name: "a", Index: 0}
	for _, c := range []struct {
		bad string
		do  func(s *stage, bad binding) error
	}{
		{"start", func(s *stage, bad binding) error { _, err := s.change(bad); return err }},
		{"connect a", func(s *stage, bad binding) error { s.use(bad); return s.stack.Connect(p, nil) }},
		{"restore a", func(s *stage, bad binding) error {
			s.use(bad)
			return s.stack.Connect(p, map[string][]byte{"bad": {1}})
		}},
		{"change a from 0 to 0, state of a", func(s *stage, bad binding) error {
			s.use(bad)
			s.stack.Connect(p, nil)
			return s.stack.Replace(p)
		}},
		{"save a", func(s *stage, bad binding) error {
			s.use(bad)
			s.stack.Connect(p, nil)
			_, err := s.stack.Save(p)
			return err
		}},
		{"disconnect a, state of a", func(s *stage, bad binding) error {
			s.use(bad)
			s.stack.Connect(p, nil)
			s.stack.Disconnect(p)
			return nil
		}},
		{"stop", func(s *stage, bad binding) error {
			s.use(bad)
			s.use()
			return nil
		}},
	} {
		t.Run(c.bad, func(t *testing.T) {
			s := newStage(t)
			m := &mover{*s.resident("bad")}
			m.bad, m.fail = c.bad, explode
			err := c.do(s, binding{Name: "bad", Extension: m})
			require.Equal(t, []string{"bad: panic: boom"}, s.reports)
			if c.bad == "stop" || c.bad == "disconnect a, state of a" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, `extension "bad": panic: boom`)
			}
			if status := s.stack.Status(); len(status) > 0 {
				require.Equal(t, "boom", status[0].Failure)
			}
		})
	}
	s := newStage(t)
	r := s.resident("bad")
	r.bad, r.fail = "save b", explode
	s.use(binding{Name: "bad", Extension: &mover{*r}})
	a, b := s.connect("a", 0), s.connect("b", 1)
	s.stack.Save(b)
	s.stack.Save(b)
	require.Len(t, s.reports, 1, "told once")
	require.False(t, s.show(extension.Ingress, a, textFrame("x")).Alive(0), "it is out of use wherever it failed")
}

func TestAPanicOfADisabledProgramThatIsStillRunning(t *testing.T) {
	s := newStage(t)
	bad := binding{Name: "bad", Extension: &filter{func(*batch) { explode() }}}
	s.use(bad)
	p := s.connect("p", 0)
	old := s.stack.Program(p)
	bad.Disabled = true
	c, err := s.change(bad)
	require.NoError(t, err)
	c.Apply()
	show(old, new(batch), extension.Ingress, p, 0, textFrames("x")) // by a worker that has not seen the change
	c.Retire()
	bad.Disabled = false
	s.use(bad)
	require.Empty(t, s.stack.Status()[0].Failure)
	require.Len(t, s.reports, 1)
}

func TestOnlyWhoIsStartedAndEnabledHasAHandle(t *testing.T) {
	s := newStage(t)
	one := binding{Name: "one", Extension: s.resident("one")}
	s.use(one, binding{Name: "two", Extension: &capture{idle}})
	require.Equal(t, []extension.Switch{&handle{"one"}}, s.stack.Handles())
	was := s.stack.Handles()[0]
	one.Disabled = true
	s.use(one)
	require.Empty(t, s.stack.Handles())
	one.Disabled = false
	s.use(one)
	require.Same(t, was, s.stack.Handles()[0])
}

func TestNames(t *testing.T) {
	require.Equal(t, "capture, filter", (extension.KindCapture | extension.KindFilter).String())
	require.Equal(t, "management vNIC", extension.Management.String())
	require.Equal(t, []string{"ingress", "egress"}, []string{extension.Ingress.String(), extension.Egress.String()})
}

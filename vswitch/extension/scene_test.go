package extension_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

type (
	batch   = extension.Batch
	binding = extension.Binding
)

// stage is a stack as a switch would run it.
type stage struct {
	t       testing.TB
	stack   *extension.Stack
	diary   diary
	mu      sync.Mutex
	reports []string
	now     time.Duration
}

func newStage(t testing.TB) *stage {
	s := &stage{t: t}
	s.stack = extension.NewStack(func(name string, failure error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reports = append(s.reports, name+": "+failure.Error())
	})
	return s
}

// diary is what has happened, in its order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns what has been written since the last call.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines
	d.lines = nil
	return l
}

// handle is the Switch of an extension.
type handle struct{ name string }

func (h *handle) Name() string                { return h.name }
func (h *handle) Inject(f *ports.Frame) error { return nil }
func (h *handle) Reauthorize()                {}

func newHandle(name string) extension.Switch { return &handle{name} }

func (s *stage) change(list ...binding) (*extension.Change, error) {
	return s.stack.Change(nil, list, newHandle)
}

func (s *stage) use(list ...binding) {
	s.t.Helper()
	c, err := s.change(list...)
	require.NoError(s.t, err)
	if c.Changes() {
		c.Apply()
		c.Retire()
	}
}

func (s *stage) connect(name string, index int) *extension.Port {
	s.t.Helper()
	p := &extension.Port{Name: name, Index: index}
	require.NoError(s.t, s.stack.Connect(p, nil))
	return p
}

// show has frames pass all that they pass on one side of a port, Fate included.
func (s *stage) show(d extension.Direction, p *extension.Port, frames ...*ports.Frame) *batch {
	b := new(batch)
	if g := s.stack.Program(p); g != nil {
		show(g, b, d, p, s.now, frames)
	}
	return b
}

func show(g *extension.Program, b *batch, d extension.Direction, source *extension.Port, now time.Duration, frames []*ports.Frame) {
	g.Begin(b, d, source, now, frames, 1<<len(frames)-1)
	if d == extension.Ingress {
		g.Ingress(b)
		g.Forward(b)
	} else {
		g.Egress(b)
	}
	g.Fate(b)
}

func textFrame(text string) *ports.Frame {
	f := new(ports.Frame)
	buf := make([]byte, ports.Headroom+ports.HeadLen)
	n := copy(buf[ports.Headroom+14:], text)
	f.SetHead(buf, ports.Headroom, 14+n)
	return f
}

func textOf(f *ports.Frame) string { return string(f.Head()[14:]) }

func textFrames(texts ...string) (fs []*ports.Frame) {
	for _, t := range texts {
		fs = append(fs, textFrame(t))
	}
	return fs
}

// The kinds of extensions, each doing what the test says.
type (
	capture    struct{ see func(b *batch) }
	historian  struct{ see, fate func(b *batch) }
	filter     struct{ do func(b *batch) }
	forwarding struct{ do func(b *batch) }
	firewall   struct {
		ask func(c *extension.Connection) bool
	}
)

func (c *capture) Capture(b *batch)                        { c.see(b) }
func (c *historian) Capture(b *batch)                      { c.see(b) }
func (c *historian) Fate(b *batch)                         { c.fate(b) }
func (f *filter) Filter(b *batch)                          { f.do(b) }
func (f *forwarding) Forward(b *batch)                     { f.do(b) }
func (f *firewall) Authorize(c *extension.Connection) bool { return f.ask(c) }

func dropAll(reason string) func(*batch) {
	return func(b *batch) {
		for i := range b.Len() {
			b.Drop(i, reason)
		}
	}
}

func idle(*batch) {}

// resident is a filter with a life.
type resident struct {
	diary *diary
	name  string
	bad   string // the call that fails: "connect a", "change a", "start", "save a"
	fail  func() error
	seen  []any // states
}

var errVeto = errors.New("not here")

func (r *resident) do(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	r.diary.add("%s: %s", r.name, what)
	if what == r.bad {
		return r.fail()
	}
	return nil
}

func (r *resident) Filter(b *batch) { r.seen = append(r.seen, b.State()) }

func (r *resident) Start(s extension.Switch) error { return r.do("start") }
func (r *resident) Stop(s extension.Switch)        { r.do("stop") }
func (r *resident) Connect(p *extension.Port) (any, error) {
	return "state of " + p.Name, r.do("connect %s", p.Name)
}
func (r *resident) Change(old, new *extension.Port, state any) error {
	return r.do("change %s from %d to %d, %v", new.Name, old.MTU, new.MTU, state)
}
func (r *resident) Disconnect(p *extension.Port, state any) { r.do("disconnect %s, %v", p.Name, state) }

// mover is a resident that can move.
type mover struct{ resident }

func (m *mover) Save(p *extension.Port, state any) ([]byte, error) {
	return []byte(fmt.Sprint("saved ", state)), m.do("save %s", p.Name)
}

func (m *mover) Restore(p *extension.Port, saved []byte) (any, error) {
	return "restored " + string(saved), m.do("restore %s", p.Name)
}

func (s *stage) resident(name string) *resident { return &resident{diary: &s.diary, name: name} }

func veto() error { return errVeto }

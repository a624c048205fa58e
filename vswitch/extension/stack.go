package extension

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
)

// Kind is a set of kinds of extensions.
type Kind uint8

// Kinds of extensions.
const (
	KindCapture Kind = 1 << iota
	KindFilter
	KindFirewall
	KindForwarding
)

// String returns the kinds, such as "capture, filter".
func (k Kind) String() string {
	var all []string
	for i, name := range [...]string{"capture", "filter", "firewall", "forwarding"} {
		if k>>i&1 != 0 {
			all = append(all, name)
		}
	}
	return strings.Join(all, ", ")
}

func kindsOf(extension any) (k Kind) {
	if _, ok := extension.(Capture); ok {
		k |= KindCapture
	}
	if _, ok := extension.(Filter); ok {
		k |= KindFilter
	}
	if _, ok := extension.(Firewall); ok {
		k |= KindFirewall
	}
	if _, ok := extension.(Forwarding); ok {
		k |= KindForwarding
	}
	return k
}

// Status is how an extension of a switch is doing.
type Status struct {
	Name     string
	Kinds    Kind
	Disabled bool
	Failure  string // what it panicked with; empty while it works
	Dropped  uint64 // frames, as long as it has been in the list
}

// Stack is the extensions of one switch, as the switch runs them. Its methods are called one at a time.
type Stack struct {
	report func(name string, failure error)
	list   []*loaded
	ports  map[int]*Port // connected, by index
	epoch  *atomic.Uint32
}

// loaded is an extension in use.
type loaded struct {
	Binding // not for workers
	name    string
	kinds   Kind
	report  func(name string, failure error)
	handle  Switch
	at      map[int]*attachment // by index of the port; without for those that it skips
	failure atomic.Pointer[string]
	dropped atomic.Uint64
	epoch   *atomic.Uint32 // of what firewalls have said
}

// attachment is an extension at a port.
type attachment struct {
	port  *Port
	state any
	flows *flows // of a firewall
}

// NewStack returns a stack without extensions. report is called, on the goroutine where it happens, for each that
// panics.
func NewStack(report func(name string, failure error)) *Stack {
	return &Stack{report: report, ports: map[int]*Port{}, epoch: new(atomic.Uint32)}
}

// Change is a change of the list of a stack that has been granted.
type Change struct {
	stack     *Stack
	bindings  []Binding
	next      []*loaded // of bindings, by index
	new, gone []*loaded

	list   []*loaded // that of the stack before Apply
	former []Binding // of next
}

// Check says what is wrong with a list, and with captures in front of it.
func Check(front, list []Binding) error {
	names := map[string]bool{}
	forwarding := ""
	for i, b := range slices.Concat(front, list) {
		k := kindsOf(b.Extension)
		decides := k&KindForwarding != 0 && !b.Disabled && i >= len(front)
		switch {
		case b.Name == "":
			return errors.New("extension without a name")
		case names[b.Name]:
			return fmt.Errorf("extension %q: there is another of that name", b.Name)
		case k == 0:
			return fmt.Errorf("extension %q: %T is of no kind of extension", b.Name, b.Extension)
		case !reflect.ValueOf(b.Extension).Comparable():
			return fmt.Errorf("extension %q: %T cannot be told from another: use a pointer", b.Name, b.Extension)
		case decides && forwarding != "":
			return fmt.Errorf("extension %q: %q decides where frames go already", b.Name, forwarding)
		}
		names[b.Name] = true
		if decides {
			forwarding = b.Name
		}
	}
	return nil
}

// Change prepares another list: those that are new in it are started and see the ports. With an error nothing has
// changed. handle makes the Switch for an extension; front are the captures that the switch puts
// before the list.
func (s *Stack) Change(front, list []Binding, handle func(name string) Switch) (*Change, error) {
	if err := Check(front, list); err != nil {
		return nil, err
	}
	c := &Change{stack: s, bindings: slices.Concat(front, list)}
	for i, b := range c.bindings {
		l := s.find(b)
		if l == nil {
			l = &loaded{Binding: b, name: b.Name, kinds: kindsOf(b.Extension), report: s.report, handle: handle(b.Name), epoch: s.epoch, at: map[int]*attachment{}}
			if i < len(front) {
				l.kinds = KindCapture
			}
			if err := l.start(s.ports); err != nil {
				c.Cancel()
				return nil, fmt.Errorf("extension %q: %w", b.Name, err)
			}
			c.new = append(c.new, l)
		}
		c.next = append(c.next, l)
	}
	for _, l := range s.list {
		if !slices.Contains(c.next, l) {
			c.gone = append(c.gone, l)
		}
	}
	return c, nil
}

// find returns what is loaded for a binding.
func (s *Stack) find(b Binding) *loaded {
	for _, l := range s.list {
		if l.Name == b.Name && l.Extension == b.Extension {
			return l
		}
	}
	return nil
}

// Changes reports whether the list differs from that of the stack.
func (c *Change) Changes() bool {
	if len(c.next) != len(c.stack.list) {
		return true
	}
	for i, l := range c.next {
		if l != c.stack.list[i] || l.Binding != c.bindings[i] {
			return true
		}
	}
	return false
}

// Cancel undoes what Change has prepared.
func (c *Change) Cancel() {
	for _, l := range c.new {
		l.stop()
	}
}

// Apply makes the list that of the stack.
func (c *Change) Apply() {
	c.list = c.stack.list
	for i, l := range c.next {
		c.former = append(c.former, l.Binding)
		l.Binding = c.bindings[i]
	}
	c.stack.list = c.next
}

// Revert undoes Apply. Cancel follows when no worker runs a Program of the list any more.
func (c *Change) Revert() {
	for i, l := range c.next {
		l.Binding = c.former[i]
	}
	c.stack.list = c.list
}

// Retire lets go of the extensions that are no longer in the list, and those that have failed and are disabled can be
// enabled anew. It is called when no worker runs a Program of the former list any more.
func (c *Change) Retire() {
	for _, l := range c.next {
		if l.Disabled {
			l.failure.Store(nil)
		}
	}
	for _, l := range c.gone {
		l.stop()
	}
}

// Close lets go of all extensions.
func (s *Stack) Close() {
	for _, l := range s.list {
		l.stop()
	}
	s.list = nil
}

// Connect asks the extensions for a port that is about to be connected. saved is what Save returned for it
// elsewhere, by name. With an error nothing has changed.
func (s *Stack) Connect(p *Port, saved map[string][]byte) error {
	for i, l := range s.list {
		if err := l.connect(p, saved); err != nil {
			for _, before := range s.list[:i] {
				before.disconnect(p)
			}
			return fmt.Errorf("extension %q: %w", l.Name, err)
		}
	}
	s.ports[p.Index] = p
	return nil
}

// Disconnect tells the extensions that a port is connected no more.
func (s *Stack) Disconnect(p *Port) {
	delete(s.ports, p.Index)
	for _, l := range s.list {
		l.disconnect(p)
	}
}

// Replace asks the extensions for other settings of a port. With an error nothing has changed.
func (s *Stack) Replace(p *Port) error {
	old := s.ports[p.Index]
	for i, l := range s.list {
		if err := l.change(old, p); err != nil {
			for _, before := range s.list[:i] {
				before.change(p, old) // whatever it says
			}
			return fmt.Errorf("extension %q: %w", l.Name, err)
		}
	}
	s.ports[p.Index] = p
	return nil
}

// Port returns the port of an index as the extensions know it, or nil.
func (s *Stack) Port(index int) *Port { return s.ports[index] }

// Save returns the state that extensions keep for a port, by name.
func (s *Stack) Save(p *Port) (map[string][]byte, error) {
	saved := map[string][]byte{}
	for _, l := range s.list {
		m, ok := l.Extension.(Mover)
		a := l.at[p.Index]
		if !ok || a == nil {
			continue
		}
		var b []byte
		err := l.guarded(func() (err error) {
			b, err = m.Save(p, a.state)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("extension %q: %w", l.Name, err)
		}
		saved[l.Name] = b
	}
	return saved, nil
}

// Status returns how the extensions are doing.
func (s *Stack) Status() []Status {
	var all []Status
	for _, l := range s.list {
		t := Status{Name: l.Name, Kinds: l.kinds, Disabled: l.Disabled, Dropped: l.dropped.Load()}
		if f := l.failure.Load(); f != nil {
			t.Failure = *f
		}
		all = append(all, t)
	}
	return all
}

// Reauthorize makes firewalls be asked again for every connection. Any goroutine may call it.
func (s *Stack) Reauthorize() { s.epoch.Add(1) }

// Handles returns the Switch of each extension that has been started with one and is not disabled.
func (s *Stack) Handles() (all []Switch) {
	for _, l := range s.list {
		if _, ok := l.Extension.(Starter); ok && !l.Disabled {
			all = append(all, l.handle)
		}
	}
	return all
}

func (l *loaded) start(connected map[int]*Port) error {
	if st, ok := l.Extension.(Starter); ok {
		if err := l.guarded(func() error { return st.Start(l.handle) }); err != nil {
			return err
		}
	}
	for _, p := range connected {
		if err := l.connect(p, nil); err != nil {
			l.stop()
			return fmt.Errorf("port %q: %w", p.Name, err)
		}
	}
	return nil
}

func (l *loaded) stop() {
	for _, a := range l.at {
		l.disconnect(a.port)
	}
	if st, ok := l.Extension.(Starter); ok {
		l.guarded(func() error { st.Stop(l.handle); return nil })
	}
}

func (l *loaded) connect(p *Port, saved map[string][]byte) error {
	a := &attachment{port: p}
	if l.kinds&KindFirewall != 0 {
		a.flows = newFlows()
	}
	if c, ok := l.Extension.(Lifecycle); ok {
		err := l.guarded(func() (err error) {
			m, moves := c.(Mover)
			if b, ok := saved[l.Name]; ok && moves {
				a.state, err = m.Restore(p, b)
			} else {
				a.state, err = c.Connect(p)
			}
			return err
		})
		if errors.Is(err, ErrSkip) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	l.at[p.Index] = a
	return nil
}

func (l *loaded) disconnect(p *Port) {
	a := l.at[p.Index]
	delete(l.at, p.Index)
	if c, ok := l.Extension.(Lifecycle); ok && a != nil {
		l.guarded(func() error { c.Disconnect(p, a.state); return nil })
	}
}

func (l *loaded) change(old, p *Port) error {
	a := l.at[p.Index]
	c, ok := l.Extension.(Lifecycle)
	if !ok || a == nil {
		return nil
	}
	err := l.guarded(func() error { return c.Change(old, p, a.state) })
	if err == nil {
		a.port = p
	}
	return err
}

// guarded calls the extension. A panic is an error, and the end of the extension.
func (l *loaded) guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = l.fail(r)
		}
	}()
	return f()
}

// fail disables the extension after a panic.
func (l *loaded) fail(r any) error {
	failure := fmt.Sprint(r)
	err := fmt.Errorf("panic: %s", failure)
	if l.failure.CompareAndSwap(nil, &failure) {
		l.report(l.name, err)
	}
	return err
}

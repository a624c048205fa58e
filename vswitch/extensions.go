package vswitch

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// extend prepares a list of extensions, behind the captures of the host.
func (s *Switch) extend(list []extension.Binding) (*extension.Change, error) {
	c, err := s.stack.Change(s.host.observers, list, s.handle)
	if err != nil {
		return nil, fmt.Errorf("switch %q: %w: %w", s.name, err, ErrInvalid)
	}
	return c, nil
}

// use makes the frames of all ports pass a list of extensions that has been prepared. Until Retire or Revert those
// that are not in it any more go on.
func (s *Switch) use(c *extension.Change) {
	changes := c.Changes()
	c.Apply()
	if changes {
		s.recompile()
	}
}

// recompile makes the pipelines of all ports anew, from the present extensions.
func (s *Switch) recompile() {
	snap := s.snap.Load()
	for old := range snap.ports.all() {
		v := *old
		s.compile(&v)
		snap = snap.with(&v)
	}
	snap, gone := s.connectInjectors(snap)
	for _, j := range gone {
		j.out.detach()
	}
	s.publish(snap, nil)
	s.host.synchronize()
	for _, j := range gone {
		j.release()
	}
}

// compile makes the pipeline of a port from its settings and the extensions.
func (s *Switch) compile(v *portView) {
	v.program = s.stack.Program(v.self)
	v.overlay = nil
	if v.mac == 0 || v.vsid != 0 {
		v.overlay = s.overlay
	}
	v.ingress = compile(v)
}

// introduce asks the extensions for ports that are about to be connected, and compiles their pipelines. With an error it
// has changed nothing.
func (s *Switch) introduce(add []*portView) error {
	for i, v := range add {
		v.self.Index = v.index
		err := s.joinOverlay(v)
		if err == nil {
			err = s.stack.Connect(v.self, v.saved)
		}
		if err != nil {
			v.leaveOverlay()
			for _, before := range add[:i] {
				s.stack.Disconnect(before.self)
				before.leaveOverlay()
			}
			return fmt.Errorf("switch %q: port %q: %w", s.name, v.name, err)
		}
		s.compile(v)
	}
	return nil
}

// extensionFailed is called on the goroutine on which an extension has panicked.
func (s *Switch) extensionFailed(name string, failure error) {
	s.host.log.Error("extension failed", "switch", s.name, "extension", name, "error", failure)
	if s.host.event != nil {
		s.host.event(Event{Kind: ExtensionFailed, Switch: s.name, Extension: name, Err: failure})
	}
}

// Extensions returns how the extensions of the switch are doing, in their order, behind the captures of
// the host.
func (s *Switch) Extensions() []extension.Status {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.stack.Status()
}

// Reauthorize makes firewall extensions be asked again for every connection.
func (s *Switch) Reauthorize() { s.stack.Reauthorize() }

// ExtensionState returns what the extensions of its switch remember of the vNIC, by their names: for
// VNICConfig.ExtensionState on the host to which its VM moves. It is empty for a vNIC that is disconnected.
func (v *VNIC) ExtensionState() (map[string][]byte, error) {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	if v.port == nil {
		return nil, nil
	}
	s := v.port.sw
	saved, err := s.stack.Save(s.stack.Port(v.port.index))
	if err != nil {
		return nil, fmt.Errorf("switch %q: vNIC %q: %w", s.name, v.name, err)
	}
	return saved, nil
}

// Observe lets a capture see the frames of all switches of the host, also of those made later, in front of
// their extensions, until stop is called. The name differs from those of other captures and of extensions.
// With an error nothing has changed.
func (h *Host) Observe(name string, c extension.Capture) (stop func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("host %q: %w", h.name, ErrClosed)
	}
	b := extension.Binding{Name: name, Extension: c}
	all := append(slices.Clone(h.observers), b)
	if err := extension.Check(all, nil); err != nil { // there may be no switch yet that finds out
		return nil, fmt.Errorf("host %q: %w: %w", h.name, err, ErrInvalid)
	}
	if err := h.setObservers(all); err != nil {
		return nil, err
	}
	stopped := false
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.closed && !stopped { // another of that name may have come since
			rest := slices.DeleteFunc(slices.Clone(h.observers), func(o extension.Binding) bool { return o == b })
			h.setObservers(rest) // cannot fail, as nothing is added
		}
		stopped = true
	}, nil
}

func (h *Host) setObservers(list []extension.Binding) error {
	was := h.observers
	h.observers = list
	changes := map[*Switch]*extension.Change{}
	for _, s := range h.switches {
		c, err := s.extend(s.cfg.Extensions)
		if err != nil {
			for c := range maps.Values(changes) {
				c.Cancel()
			}
			h.observers = was
			return err
		}
		changes[s] = c
	}
	for s, c := range changes {
		s.use(c)
		c.Retire()
	}
	return nil
}

// Ports returns the connected ports of all switches, as extensions know them, in no order.
func (h *Host) Ports() (all []extension.Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.switches {
		for v := range s.snap.Load().ports.all() {
			all = append(all, *v.self)
		}
	}
	return all
}

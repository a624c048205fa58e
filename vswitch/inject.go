package vswitch

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// injectorDepth is how many frames of an extension may wait.
const injectorDepth = 256

// injector is what an extension knows of its switch, and where the frames come from that it injects: a port
// that nothing is sent to.
type injector struct {
	sw   *Switch
	name string // of the extension

	mu  sync.Mutex
	in  *ports.PipeEnd // nil while the extension is not in use
	out *port
}

var errNotInUse = errors.New("the extension is not in use")

// Reauthorize implements extension.Switch.
func (j *injector) Reauthorize() { j.sw.stack.Reauthorize() }

// handle returns what the extension of a name knows of its switch.
func (s *Switch) handle(name string) extension.Switch { return &injector{sw: s, name: name} }

// Name implements extension.Switch.
func (j *injector) Name() string { return j.sw.name }

// Inject implements extension.Switch.
func (j *injector) Inject(f *ports.Frame) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.in == nil {
		return fmt.Errorf("switch %q: extension %q: %w", j.sw.name, j.name, errNotInUse)
	}
	if len(f.Head()) < etherHeader {
		return fmt.Errorf("switch %q: extension %q: frame of %d bytes: %w", j.sw.name, j.name, f.Len(), ErrInvalid)
	}
	n, err := j.in.Tx(0).Send([]*ports.Frame{f})
	if err == nil && n == 0 {
		err = errors.New("queue full")
	}
	if err != nil {
		return fmt.Errorf("switch %q: extension %q: %w", j.sw.name, j.name, err)
	}
	return nil
}

// connectInjectors returns the snapshot with an injector for each extension in use that may want one, and
// the injectors that are not needed any more, which are in none.
func (s *Switch) connectInjectors(snap *snapshot) (next *snapshot, gone []*injector) {
	n := *snap
	n.injectors = nil
	var list []*injector
	for _, h := range s.stack.Handles() {
		list = append(list, h.(*injector))
	}
	for _, j := range list {
		if !slices.Contains(s.injectors, j) {
			s.addInjector(j)
		}
	}
	for i, j := range s.injectors { // after the new ones, which are not to take a place where frames may still come from
		if j != nil && !slices.Contains(list, j) {
			gone = append(gone, j)
			s.injectors[i] = nil
		}
	}
	for _, j := range s.injectors {
		var v *portView
		if j != nil {
			v = &portView{
				port: j.out, vlan: uplinkMode, keepPriority: true, spoofing: true, injected: true,
				maxLen: etherHeader + j.out.info.MTU, program: s.stack.Injection(j.name),
			}
			v.ingress = compile(v)
		}
		n.injectors = append(n.injectors, v)
	}
	return &n, gone
}

// addInjector has a worker wait for the frames of an injector.
func (s *Switch) addInjector(j *injector) {
	in, out, err := ports.Pipe(&ports.PipeConfig{MTU: 65535, Depth: injectorDepth, Offloads: ports.OffloadAll})
	if err == nil {
		j.out, err = newPort(s, j.name, out, new(counters))
	}
	if err == nil {
		place := slices.Index(s.injectors, nil)
		if place < 0 {
			place = len(s.injectors)
			s.injectors = append(s.injectors, nil)
		}
		s.injectors[place] = j
		j.out.index = ^place
		err = j.out.attach()
	}
	if err != nil {
		panic(err) // a pipe of a valid configuration
	}
	j.mu.Lock()
	j.in = in
	j.mu.Unlock()
}

// release ends an injector that is detached and of which no worker has frames any more.
func (j *injector) release() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.in.Close()
	j.in = nil
}

// stopInjectors ends all injectors.
func (s *Switch) stopInjectors() {
	n := *s.snap.Load()
	n.injectors = nil
	s.snap.Store(&n)
	gone := slices.DeleteFunc(s.injectors, func(j *injector) bool { return j == nil })
	s.injectors = nil
	for _, j := range gone {
		j.out.detach()
	}
	s.host.synchronize()
	for _, j := range gone {
		j.release()
	}
}

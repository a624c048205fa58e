package vswitch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

const (
	pingAgain   = time.Second
	pingResolve = 50 * time.Millisecond // while the next hop is being asked for
)

var (
	errUnresolved = errors.New(DropUnresolved.String())
	errNoAnswer   = errors.New("no answer")
)

// PingPA asks a provider address for an ICMP echo, every second until it answers or ctx ends, and returns
// how long the answer to the last question took. It takes the way that the overlay takes to that address.
func (s *Switch) PingPA(ctx context.Context, pa netip.Addr) (time.Duration, error) {
	wrong := func(err error) (time.Duration, error) {
		return 0, fmt.Errorf("switch %q: ping of provider address %s: %w", s.name, pa, err)
	}
	s.host.mu.Lock()
	o := s.overlay
	s.host.mu.Unlock()
	if o == nil {
		return wrong(fmt.Errorf("the switch has no Overlay: %w", ErrInvalid))
	}
	from, drop := o.engine.SourceTo(pa)
	if drop != 0 {
		return wrong(fmt.Errorf("%s: %w", drop, ErrInvalid))
	}
	p := overlay.NewPing(from, pa)
	defer o.engine.AwaitPA(p)()
	took, err := ask(ctx, p, func() error {
		s.host.mu.Lock()
		defer s.host.mu.Unlock()
		snap := s.snap.Load()
		if s.overlay != o || snap.uplink == 0 {
			return fmt.Errorf("the overlay of the switch has changed: %w", ErrClosed)
		}
		w, b := s.host.caller(s, snap.ports.at(snap.uplink-1))
		b.overlay.begin()
		b.overlay.out = o.worker(b).PingPA(b.clock, p)
		var last overlay.Drop
		for _, out := range b.overlay.out {
			last = out.Drop
		}
		w.asCaller(b, w.deliverOverlay)
		switch last {
		case 0:
			return nil
		case overlay.DropUnresolved:
			return errUnresolved
		}
		return fmt.Errorf("%s: %w", last, ErrInvalid)
	})
	if err != nil {
		return wrong(err)
	}
	return took, nil
}

// PingCA asks a customer address for an ICMP echo as the VM of the vNIC would, every second until it answers
// or ctx ends, and returns how long the answer to the last question took. The request passes the policy of
// the vNIC like any frame of the VM, and counts as one. The answer has to pass its ACL, and the VM does not
// see it. One vNIC has one ping at a time.
func (v *VNIC) PingCA(ctx context.Context, to netip.Addr) (time.Duration, error) {
	wrong := func(err error) (time.Duration, error) {
		return 0, fmt.Errorf("vNIC %q: ping of customer address %s: %w", v.name, to, err)
	}
	h := v.host
	h.mu.Lock()
	port, vsid, mac := v.port, v.cfg.VSID, v.mac
	var o *overlayOf
	if port != nil {
		o = port.sw.overlay
	}
	h.mu.Unlock()
	switch {
	case vsid == 0:
		return wrong(fmt.Errorf("it is in no virtual subnet: %w", ErrInvalid))
	case port == nil:
		return wrong(fmt.Errorf("it is disconnected: %w", ErrInvalid))
	}
	p, dst, drop := o.ping(vsid, mac, to)
	if drop != 0 {
		return wrong(fmt.Errorf("%s: %w", drop, ErrNotFound))
	}
	if !port.ping.CompareAndSwap(nil, p) {
		return wrong(fmt.Errorf("another ping is under way: %w", ErrInUse))
	}
	defer port.ping.Store(nil)
	took, err := ask(ctx, p, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if v.port != port || v.cfg.VSID != vsid {
			return fmt.Errorf("it has left: %w", ErrClosed)
		}
		w, b := h.caller(port.sw, port.sw.snap.Load().ports.at(port.index))
		b.frames = []*ports.Frame{p.Request(dst, mac)}
		w.asCaller(b, w.process)
		switch r := b.meta[0].drop; r {
		case 0:
			return nil
		case DropUnresolved:
			return errUnresolved
		default:
			return fmt.Errorf("dropped: %s", r)
		}
	})
	if err != nil {
		return wrong(err)
	}
	return took, nil
}

// ping returns a ping from one of the customer addresses of a vNIC to another one, and the MAC address that
// the VM would send it to.
func (o *overlayOf) ping(vsid overlay.VSID, mac ports.MAC, to netip.Addr) (p *overlay.Ping, dst ports.MAC, drop overlay.Drop) {
	drop = overlay.DropSource
	for _, from := range o.engine.AddressesOf(vsid, mac) {
		if from.Is4() != to.Is4() {
			continue
		}
		var hop overlay.NextHop
		if hop, drop = o.engine.NextHop(vsid, from, to); drop != 0 {
			continue
		}
		if hop.Routed {
			return overlay.NewPing(from, to), hop.Router, 0
		}
		return overlay.NewPing(from, to), hop.MAC, 0
	}
	return nil, dst, drop
}

// ask sends the request of a ping until it is answered.
func ask(ctx context.Context, p *overlay.Ping, send func() error) (time.Duration, error) {
	for {
		start := time.Now()
		err := send()
		wait := pingAgain
		switch {
		case err == nil:
			err = errNoAnswer
		case errors.Is(err, errUnresolved):
			wait = pingResolve
		default:
			return 0, err
		}
		again := time.NewTimer(wait)
		select {
		case <-p.Answered():
			again.Stop()
			return time.Since(start), nil
		case <-ctx.Done():
			again.Stop()
			return 0, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-again.C:
		}
	}
}

// caller returns a worker for the goroutine that has Host.mu, with an empty burst of frames from a port.
func (h *Host) caller(s *Switch, in *portView) (*worker, *burst) {
	w := &worker{host: h, clock: h.clock()}
	w.burst.scratch = &w.scratch
	w.scratch.overlay.worker = len(h.workers)
	b := &w.burst
	b.sw, b.snap, b.in, b.clock, b.now = s, s.snap.Load(), in, w.clock, fdbTime(w.clock)
	return w, b
}

// asCaller does something with a burst on the goroutine of a caller, who like a worker may find that memory
// of a guest is gone, see processLent.
func (w *worker) asCaller(b *burst, do func(*burst)) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			w.fault(b, r)
		}
	}()
	do(b)
}

// catch takes the answer to a ping from the vNIC to. It reports whether the frame is one.
func (b *burst) catch(to *portView, f *ports.Frame) bool {
	p := to.ping.Load()
	if p == nil || b.trace != nil || !p.Is(f) {
		return false
	}
	if to.judgedIn {
		var h header.Header
		h.Parse(f.Head(), f.Len())
		j := to.connections.Begin(to.acl, acl.In, b.clock)
		ok := j.Check(f.Head(), &h, f.Len(), uint32(to.vsid)).Allowed()
		j.End()
		if !ok {
			to.count.drop(DropACLIn, 1)
			return true
		}
	}
	p.Answer()
	return true
}

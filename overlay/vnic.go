package overlay

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hvswitch/hvswitch/internal/linkwatch"
	"github.com/hvswitch/hvswitch/ports"
)

// VNICConfig describes a vNIC of an Underlay.
type VNICConfig struct {
	PortConfig

	Name string // for Info

	// MTU is what the guest has, 68 … 65535 bytes; Send refuses what is longer. 0 means what every
	// provider address carries with the encapsulation Rule: with NVGRE over IPv4 42 less than
	// Config.MTU. With more, a guest that sends what is too long for the way is told by ICMP, or its
	// packet is fragmented inside.
	MTU  int
	Rule Encapsulation

	Queues int // in each direction, 1 … 256; 0 means 1. Flows are spread over those for receiving.
	Depth  int // frames that a receive queue holds, 1 … 65536; 0 means 256
}

// VNIC is a vNIC in a virtual subnet: a ports.Backend for whoever runs the guest.
//
// It accepts all offload requests; segmentation and checksums are done in software. Frames from other
// vNICs of the host keep their requests. Frames are dropped, and counted, when the device or the
// receiving vNIC has no room: Send takes everything that it can take at all. The link is that of the
// device; frames to vNICs of the same host pass without it.
type VNIC struct {
	u     *Underlay
	port  *Port
	mtu   int
	near  *ports.PipeEnd // receive queues, in memory
	rings []ring
	tx    []vnicTx
	name  string

	drops     dropCounters
	sent, got atomic.Uint64
	closed    atomic.Bool
	watch     linkwatch.Watch
	closeOnce sync.Once
}

var (
	_ ports.Backend     = &VNIC{}
	_ ports.LinkWatcher = &VNIC{}
)

// ring is the other end of a receive queue: every courier delivers to it.
type ring struct {
	mu sync.Mutex
	q  ports.TxQueue
}

// Attach adds a vNIC. It returns a *ConfigError, also when another port of the subnet has the MAC address,
// and ports.ErrClosed after Close.
func (u *Underlay) Attach(c VNICConfig) (*VNIC, error) {
	wrong := func(field string, value any, reason string) (*VNIC, error) {
		return nil, &ConfigError{fmt.Sprintf("port %d", c.ID), field, fmt.Sprint(value), reason}
	}
	switch {
	case c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535): // RFC 791: every host forwards 68 bytes
		return wrong("MTU", c.MTU, "is out of 68–65535")
	case c.Rule >= encapsulations:
		return wrong("Rule", uint8(c.Rule), "does not exist")
	case c.Queues < 0 || c.Queues > 256:
		return wrong("Queues", c.Queues, "is out of 1–256")
	case c.Depth < 0 || c.Depth > 1<<16:
		return wrong("Depth", c.Depth, "is out of 1–65536")
	}
	v := &VNIC{u: u, mtu: c.MTU, name: c.Name}
	if v.mtu == 0 {
		v.mtu = u.engine.innerMTU(c.Rule)
	}
	near, far, err := ports.Pipe(&ports.PipeConfig{MTU: 65535, Queues: max(c.Queues, 1), Depth: c.Depth, Offloads: ports.OffloadAll})
	if err != nil {
		return nil, err
	}
	v.near, v.rings = near, make([]ring, max(c.Queues, 1))
	for i := range v.rings {
		v.rings[i].q = far.Tx(i)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, ports.ErrClosed
	}
	if v.port, err = u.engine.addPort(c.PortConfig, v); err != nil {
		return nil, err
	}
	for i := range v.rings {
		v.tx = append(v.tx, vnicTx{v, u.lanes[(u.number+i)%len(u.lanes)]})
	}
	u.number++
	u.vnics[v] = struct{}{}
	return v, nil
}

// innerMTU returns what every way to the provider network carries.
func (e *Engine) innerMTU(rule Encapsulation) int {
	p := e.snap.Load().provider
	mtu := p.MTU
	for i := range p.Addresses {
		mtu = min(mtu, rule.InnerMTU(p.MTU, p.Addresses[i].Address.Addr()))
	}
	return mtu
}

// Port returns the vNIC's place in its virtual subnet.
func (v *VNIC) Port() *Port { return v.port }

// Info implements ports.Backend.
func (v *VNIC) Info() ports.Info {
	return ports.Info{
		Name: v.name, MAC: v.port.MAC, MTU: v.mtu, RxQueues: len(v.rings), TxQueues: len(v.tx), Offloads: ports.OffloadAll,
	}
}

// Rx implements ports.Backend. The queues implement ports.Notifier.
func (v *VNIC) Rx(i int) ports.RxQueue { return v.near.Rx(i) }

// Tx implements ports.Backend.
func (v *VNIC) Tx(i int) ports.TxQueue { return &v.tx[i] }

// Link implements ports.LinkWatcher: the link is that of the device.
func (v *VNIC) Link() ports.Link {
	l := v.u.link()
	l.Up = l.Up && !v.closed.Load()
	return l
}

// WatchLink implements ports.LinkWatcher.
func (v *VNIC) WatchLink(changed func(ports.Link)) {
	if changed == nil {
		v.watch.Set(nil, v.up)
		return
	}
	v.watch.Set(func(l ports.Link) {
		l.Speed = v.Link().Speed
		changed(l)
	}, v.up)
	v.watch.Tell(v.up)
}

func (v *VNIC) up() bool { return v.Link().Up }

// Close takes the vNIC out of its virtual subnet.
func (v *VNIC) Close() error {
	v.u.mu.Lock()
	delete(v.u.vnics, v)
	v.u.mu.Unlock()
	v.shut()
	return nil
}

func (v *VNIC) shut() {
	v.closeOnce.Do(func() {
		v.closed.Store(true)
		v.port.Close()
		_ = v.near.Close()
		v.watch.Tell(v.up)
	})
}

// VNICStats are counters of a vNIC. Directions are those of the overlay: Rx is received from the guest.
type VNICStats struct {
	RxFrames, TxFrames uint64

	// Drops are frames of the guest that went nowhere, and frames for it that it had no room for, by
	// reasons that occurred.
	Drops map[Drop]uint64
}

// Stats returns the counters.
func (v *VNIC) Stats() VNICStats {
	return VNICStats{RxFrames: v.sent.Load(), TxFrames: v.got.Load(), Drops: v.drops.by()}
}

// deliver copies frames to a receive queue.
func (v *VNIC) deliver(queue int, frames []*ports.Frame) {
	r := &v.rings[queue]
	r.mu.Lock()
	defer r.mu.Unlock()
	v.got.Add(sendAll(r.q, frames, &v.drops))
}

// vnicTx is a transmit queue of a vNIC.
type vnicTx struct {
	v    *VNIC
	lane *lane
}

// Send implements ports.TxQueue.
func (q *vnicTx) Send(frames []*ports.Frame) (n int, err error) {
	v := q.v
	if v.closed.Load() {
		return 0, ports.ErrClosed
	}
	for n < len(frames) && err == nil {
		k := 0
		for k < burst && n+k < len(frames) {
			if err = v.check(frames[n+k]); err != nil {
				break
			}
			k++
		}
		if k > 0 {
			q.lane.send(v, frames[n:n+k])
			n += k
		}
	}
	v.sent.Add(uint64(n))
	return n, err
}

func (v *VNIC) check(f *ports.Frame) error {
	if !f.Offload.IsZero() && f.Offload.Needs()&^ports.OffloadAll != 0 {
		return ports.ErrOffload
	}
	if n := f.Len(); n < ethernetLen || n > ports.MaxFrame || f.Offload.Segment == ports.SegmentNone && !f.Fits(v.mtu) {
		return ports.ErrFrameSize
	}
	return nil
}

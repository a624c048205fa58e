package overlay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/internal/arrival"
	"github.com/hvswitch/hvswitch/ports"
)

// Underlay puts an engine between the device to the provider network and vNICs, for a VMM that has virtual
// networks and no switch: each vNIC is a ports.Backend.
//
//	underlay, err := overlay.NewUnderlay(engine, nic)
//	vnic, err := underlay.Attach(overlay.VNICConfig{PortConfig: overlay.PortConfig{VSID: 5001, MAC: mac}})
//
// A goroutine for each receive queue of the device waits for frames and copies them to the vNICs. What a vNIC
// sends is encapsulated, or copied to another vNIC of the host, on the goroutine that sends it. vNICs share
// the transmit queues of the device, of which each queue of a vNIC uses one: so the order of its frames
// is kept.
//
// Its methods may be called from any goroutine.
type Underlay struct {
	engine *Engine
	device ports.Backend
	start  time.Time
	lanes  []*lane
	pumps  []*pump
	count  underlayCounters

	mu     sync.Mutex
	vnics  map[*VNIC]struct{}
	number int // of the next vNIC
	closed bool
	failed error

	stop chan struct{}
	done sync.WaitGroup
}

// expiry is how often it is looked what has become old.
const expiry = time.Second

// NewUnderlay makes a device that of an engine, which has no other. The engine must fit it: the MTU of its
// configuration is at most that of the device, and its offloads are the device's. Close closes the device;
// with an error it is the caller's still.
func NewUnderlay(e *Engine, device ports.Backend) (*Underlay, error) {
	c, info := e.Config(), device.Info()
	if c.MTU > info.MTU {
		return nil, &ConfigError{"provider network", "MTU", fmt.Sprint(c.MTU), fmt.Sprintf("is more than the %d of device %q", info.MTU, info.Name)}
	}
	if lacks := c.Offloads & ports.OffloadChecksum &^ info.Offloads; lacks != 0 {
		return nil, &ConfigError{"provider network", "Offloads", fmt.Sprint(c.Offloads), fmt.Sprintf("are not those of device %q", info.Name)}
	}
	u := &Underlay{engine: e, device: device, start: time.Now(), vnics: map[*VNIC]struct{}{}, stop: make(chan struct{})}
	for i := range info.TxQueues {
		u.lanes = append(u.lanes, newLane(u, device.Tx(i)))
	}
	for i := range info.RxQueues {
		wait, err := arrival.New(device.Rx(i))
		if err != nil {
			u.dropPumps()
			return nil, fmt.Errorf("device %q: receive queue %d: %w", info.Name, i, err)
		}
		u.pumps = append(u.pumps, newPump(u, device.Rx(i), wait, u.lanes[i%len(u.lanes)].tx))
	}
	if w, ok := device.(ports.LinkWatcher); ok {
		w.WatchLink(func(ports.Link) { u.linkChanged() })
	}
	for _, p := range u.pumps {
		u.done.Go(p.serve)
	}
	u.done.Go(u.expire)
	return u, nil
}

func (u *Underlay) dropPumps() {
	for _, p := range u.pumps {
		p.wait.Close()
	}
}

// Close closes the vNICs and the device. A second call does nothing and returns nil.
func (u *Underlay) Close() error {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return nil
	}
	u.closed = true
	vnics := u.vnics
	u.vnics = nil
	u.mu.Unlock()
	for v := range vnics {
		v.shut()
	}
	close(u.stop)
	for _, p := range u.pumps {
		p.wait.Wake()
	}
	u.done.Wait()
	u.dropPumps()
	if w, ok := u.device.(ports.LinkWatcher); ok {
		w.WatchLink(nil)
	}
	return u.device.Close()
}

// Err returns why a receive queue of the device is dead, or nil. An underlay with one receives on the
// others alone, and its vNICs have no link.
func (u *Underlay) Err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// UnderlayStats are counters of the device to the provider network. Directions are those of the overlay:
// Rx is received from the network.
type UnderlayStats struct {
	RxFrames, TxFrames uint64

	// Drops are frames that the network sent and no vNIC got, by reasons that occurred. What is not
	// encapsulated, and does not ask for a provider address, is under DropNotTunnel.
	Drops map[Drop]uint64
}

// Stats returns the counters.
func (u *Underlay) Stats() UnderlayStats {
	return UnderlayStats{RxFrames: u.count.rx.Load(), TxFrames: u.count.tx.Load(), Drops: u.count.drops.by()}
}

type underlayCounters struct {
	rx, tx atomic.Uint64
	drops  dropCounters
}

// dropCounters counts by reason.
type dropCounters [drops]atomic.Uint64

func (c *dropCounters) by() map[Drop]uint64 {
	by := map[Drop]uint64{}
	for d := range c {
		if n := c[d].Load(); n != 0 {
			by[Drop(d)] = n
		}
	}
	return by
}

func (u *Underlay) now() time.Duration { return time.Since(u.start) }

func (u *Underlay) expire() {
	t := time.NewTicker(expiry)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			u.engine.Expire(u.now())
		case <-u.stop:
			return
		}
	}
}

// fail notes that a receive queue is dead.
func (u *Underlay) fail(err error) {
	u.mu.Lock()
	if !u.closed {
		u.failed = errors.Join(u.failed, err)
	}
	u.mu.Unlock()
	u.linkChanged()
}

func (u *Underlay) link() ports.Link {
	l := ports.LinkOf(u.device)
	if l.Up {
		l.Up = u.Err() == nil
	}
	return l
}

func (u *Underlay) linkChanged() {
	u.mu.Lock()
	vnics := make([]*VNIC, 0, len(u.vnics))
	for v := range u.vnics {
		vnics = append(vnics, v)
	}
	u.mu.Unlock()
	for _, v := range vnics {
		v.watch.Tell(v.up)
	}
}

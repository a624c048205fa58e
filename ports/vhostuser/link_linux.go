package vhostuser

import (
	"sync"

	"github.com/hvswitch/hvswitch/ports"
)

// watch is who wants to know of the link of a device.
type watch struct {
	mu      sync.Mutex
	changed func(ports.Link)
	was     bool // told last
	telling bool // some goroutine is in tell
	again   bool // it shall look once more
}

func (d *device) linkUp() bool { return d.up.Load() }

func (d *device) watchLink(changed func(ports.Link)) {
	w := &d.watch
	w.mu.Lock()
	if w.changed == nil {
		w.was = d.up.Load()
	}
	w.changed = changed
	w.mu.Unlock()
	d.tell()
}

// tell tells the watcher when the link is not what it was told last. One goroutine does that at a time,
// without a lock, so that calls are in order and may use the device.
func (d *device) tell() {
	w := &d.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = true
	if w.telling {
		return
	}
	w.telling = true
	for w.again {
		w.again = false
		up, changed := d.up.Load(), w.changed
		if up == w.was || changed == nil {
			continue
		}
		w.was, w.again = up, true
		w.mu.Unlock()
		changed(ports.Link{Up: up})
		w.mu.Lock()
	}
	w.telling = false
}

// refresh makes link and transmit queues follow from the state of the rings: the queues share the pairs
// of which the guest uses both rings.
func (d *device) refresh() {
	d.refreshing.Lock()
	var in []*ring
	if d.admin.Load() && !d.closed.Load() {
		for i := 0; i < len(d.rings); i += 2 {
			if d.rings[i].active.Load() && d.rings[i+1].active.Load() {
				in = append(in, d.rings[i])
			}
		}
	}
	for i := range d.txs {
		var v *ring
		if len(in) > 0 {
			v = in[i%len(in)]
			if own := d.rings[2*i]; own.active.Load() && d.rings[2*i+1].active.Load() {
				v = own
			}
		}
		d.txs[i].ring.Store(v)
	}
	d.up.Store(len(in) > 0)
	d.refreshing.Unlock()
	d.tell()
}

// setLink sets the administrative state of the link.
func (d *device) setLink(up bool) {
	if d.admin.Swap(up) == up {
		return
	}
	for _, q := range d.rxs {
		q.ring.mu.Lock()
		q.muted = !up
		q.ring.mu.Unlock()
	}
	d.refresh()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != nil {
		d.session.configChanged()
	}
}

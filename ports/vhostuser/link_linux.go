package vhostuser

import "github.com/hvswitch/hvswitch/ports"

func (d *device) linkUp() bool { return d.up.Load() }

func (d *device) watchLink(changed func(ports.Link)) {
	d.watch.Set(changed, d.up.Load)
	d.tell()
}

// tell tells the watcher of a change.
func (d *device) tell() { d.watch.Tell(d.up.Load) }

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

package overlay

import "github.com/hvswitch/hvswitch/ports"

// flood delivers a frame of a port to every other port of its subnet on this host, and to every other
// host of the subnet once (head-end replication; RFC 7637, section 4.2).
func (w *Worker) flood(f *ports.Frame, from origin, sub *subnet) {
	m := w.snap.members.get(uint32(sub.VSID))
	if m == nil { // the port has been closed, and was the last
		w.drop(f, DropNoMember)
		return
	}
	if w.notes != nil {
		w.note("flooded to the members of VSID %s", sub.VSID)
	}
	n := len(w.out)
	for _, p := range m.ports {
		if p != from.port {
			w.toPort(w.spares.fork(f), p)
		}
	}
	for _, to := range m.hosts {
		peer := w.snap.peers[to.peer()]
		if peer.local < 0 {
			w.send(w.spares.fork(f), from, sub, sub.VSID, peer, to.rule())
		}
	}
	if len(w.out) == n {
		w.drop(f, DropNoMember)
	}
}

// spread delivers a frame from another host to every port of its subnet here. It goes to no other host:
// its sender has seen to that.
func (w *Worker) spread(f *ports.Frame, m *members) {
	if m == nil || len(m.ports) == 0 {
		w.drop(f, DropNoMember)
		return
	}
	if w.notes != nil {
		w.note("to all %d members on this host", len(m.ports))
	}
	last := len(m.ports) - 1
	for _, p := range m.ports[:last] {
		w.toPort(w.spares.fork(f), p)
	}
	w.toPort(f, m.ports[last])
}

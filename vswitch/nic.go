package vswitch

import (
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

// NIC is a physical NIC of the host, or a team of them: the uplink of at most one external switch.
type NIC struct {
	host    *Host
	name    string
	backend ports.Backend
	count   counters

	sw   *Switch // bound to; nil when none; under Host.mu
	port *port
}

// AddNIC adds a physical NIC, or a team, that an external switch can name as its uplink. On success
// the host owns b and closes it. The name is unique among the NICs and vNICs of the host.
func (h *Host) AddNIC(name string, b ports.Backend) (*NIC, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkNewPort("NIC", name); err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("NIC %q: no backend: %w", name, ErrInvalid)
	}
	n := &NIC{host: h, name: name, backend: b}
	h.nics[name] = n
	return n, nil
}

// NIC returns the NIC of that name, or nil.
func (h *Host) NIC(name string) *NIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nics[name]
}

// NICs returns the NICs in the order of their names.
func (h *Host) NICs() []*NIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sortedByName(h.nics)
}

// Name returns the name of the NIC.
func (n *NIC) Name() string { return n.name }

// Switch returns the external switch whose uplink the NIC is, or nil.
func (n *NIC) Switch() *Switch {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	return n.sw
}

// Info returns what the backend says of itself: MTU, queues, offloads.
func (n *NIC) Info() ports.Info { return n.backend.Info() }

// Link returns the state of the link.
func (n *NIC) Link() ports.Link { return ports.LinkOf(n.backend) }

// Stats returns the counters of the NIC.
func (n *NIC) Stats() PortStats { return n.count.stats(n.name) }

// Close removes the NIC from the host and closes its backend. It fails while the NIC is the uplink
// of a switch.
func (n *NIC) Close() error {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	if n.host.nics[n.name] != n {
		return nil
	}
	if n.sw != nil {
		return fmt.Errorf("NIC %q: is the uplink of switch %q: %w", n.name, n.sw.name, ErrInUse)
	}
	return n.delete()
}

func (n *NIC) delete() error {
	delete(n.host.nics, n.name)
	return n.backend.Close()
}

package capture

import (
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// port is an interface of the capture. Its counters are under Capture.mu.
type port struct {
	id   uint32 // of the interface, its place among them
	port extension.Port

	received uint64 // frames seen
	accepted uint64 // by the filter
	lost     uint64 // because the buffer was full

	delivered uint64 // to the output; the writer's
}

// Connect implements extension.Lifecycle: the port becomes an interface of the capture, unless the filter
// excludes it. A port that comes back as it was is the interface that it was.
func (c *Capture) Connect(p *extension.Port) (state any, err error) {
	if !c.match.port(p) {
		return nil, extension.ErrSkip
	}
	key := *p
	key.Index = 0 // another one each time it is connected
	c.mu.Lock()
	q := c.known[key]
	if q == nil {
		q = &port{id: uint32(len(c.ports)), port: key}
		c.known[key] = q
		c.ports = append(c.ports, q)
	}
	c.mu.Unlock()
	c.rouse()
	return q, nil
}

// Change implements extension.Lifecycle. The interface stays as it was described.
func (c *Capture) Change(old, new *extension.Port, state any) error { return nil }

// Disconnect implements extension.Lifecycle.
func (c *Capture) Disconnect(p *extension.Port, state any) {}

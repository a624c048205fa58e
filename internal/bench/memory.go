package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

const (
	memoryRep      = 80 * time.Millisecond
	memoryShortRep = 15 * time.Millisecond
)

func memoryBenches() []*bench {
	base := load{size: 64, batch: 32, ports: 2, addresses: 1 << 10, cores: 1}
	var all []*bench
	add := func(change func(*load)) {
		l := base
		change(&l)
		all = append(all, memoryBench(l))
	}
	for _, size := range []int{64, 1514} {
		for _, batch := range []int{1, 32, 256} {
			add(func(l *load) { l.size, l.batch = size, batch })
		}
	}
	add(func(l *load) { l.size, l.batch = 65535, 1 })  // within the second-level cache
	add(func(l *load) { l.size, l.batch = 65535, 32 }) // beyond it
	add(func(l *load) { l.ports = 100 })
	add(func(l *load) { l.ports, l.addresses = 10000, 10000 })
	add(func(l *load) { l.ports, l.addresses, l.idle = 10000, 10000, true })
	add(func(l *load) { l.rewrite = true })
	add(func(l *load) { l.addresses, l.rewrite = 1<<20, true })
	add(func(l *load) { l.cores = 2 })
	add(func(l *load) { l.size, l.cores = 1514, 2 })

	few, many := base, base
	few.rewrite = true // like with like
	many.addresses, many.rewrite = 1<<20, true
	all = append(all, growthBench("memory/growth/addresses=1k-1M", few, many))
	few, many = base, base
	few.addresses, few.idle = 2, true
	many.ports, many.addresses, many.idle = 10000, 10000, true
	all = append(all, growthBench("memory/growth/ports=2-10000", few, many))

	for _, l := range []load{
		{size: 64, batch: 32, cores: 1}, {size: 64, batch: 32, cores: 2},
		{size: 1514, batch: 32, cores: 1}, {size: 1514, batch: 32, cores: 2},
		{size: 65535, batch: 8, cores: 1}, {size: 65535, batch: 8, cores: 2},
	} {
		l.ports, l.addresses = 2, 1<<10
		all = append(all, pipeBench(l))
	}
	return all
}

func memoryRow(name, unit string) []row { return []row{{name: name, unit: unit}} }

func memoryBench(l load) *bench {
	return &bench{
		rows: memoryRow("memory/"+l.name(), "ns/frame"),
		rep:  memoryRep, shortRep: memoryShortRep,
		open: func(options) (*contest, error) {
			s, err := newScene(l.cores)
			if err != nil {
				return nil, err
			}
			c := &contest{close: s.close}
			if c.ours, err = s.ours(l); err == nil && !l.segmented() { // the peer carries no requests
				c.peer, err = s.peer(l)
			}
			if err != nil {
				s.close()
				return nil, err
			}
			c.copy = perFrame("bare copy", 1, bareCopy(l))
			c.limit = s.limit(l)
			if l.segmented() {
				c.limit, c.copy = c.copy, nil
			}
			return c, nil
		},
	}
}

// growthBench compares how much more the second load takes than the first.
func growthBench(name string, few, many load) *bench {
	return &bench{
		rows: memoryRow(name, "times"),
		rep:  memoryRep, shortRep: memoryShortRep,
		open: func(options) (*contest, error) {
			s, err := newScene(1)
			if err != nil {
				return nil, err
			}
			a, err := s.ours(few)
			if err != nil {
				s.close()
				return nil, err
			}
			b, err := s.ours(many)
			if err != nil {
				s.close()
				return nil, err
			}
			return &contest{ours: growth(a, b), limit: growth(s.limit(few), s.limit(many)), close: s.close}, nil
		},
	}
}

// scene holds what must be undone at the end of a bench, last first.
type scene struct {
	undo []func()
}

// newScene gives the process as many processors as the rows name.
func newScene(cores int) (*scene, error) {
	if cores > len(cpus) {
		return nil, skip(fmt.Sprintf("needs %d processors", cores))
	}
	s := &scene{}
	// A value that was set also keeps the runtime from following what pinning does.
	procs := runtime.GOMAXPROCS(cores)
	s.later(func() { runtime.GOMAXPROCS(procs) })
	if cores == 1 {
		s.later(pinProcess(len(cpus) - 1))
	}
	return s, nil
}

func (s *scene) later(f func()) { s.undo = append(s.undo, f) }

func (s *scene) close() {
	for _, f := range slices.Backward(s.undo) {
		f()
	}
}

func (s *scene) ours(l load) (c *contestant, err error) {
	as("ours", func() {
		var h *vswitch.Host
		if h, err = newHost(l); err != nil {
			return
		}
		s.later(func() { h.Close() })
		g := newGuests(l)
		if err = plug(h, l, func(i int) ports.Backend { return g.all[i] }); err == nil {
			err = g.introduce()
		}
		c = perFrame("hvswitch", l.cores, g.move)
	})
	return c, err
}

func (s *scene) peer(l load) (c *contestant, err error) {
	as("peer", func() {
		var p *gvisorPeer
		if p, err = newGvisorPeer(l); err == nil {
			s.later(p.close)
			c = perFrame(gvisorName, l.cores, p.move)
		}
	})
	return c, err
}

func (s *scene) limit(l load) *contestant { return perFrame("bare loop", l.cores, limitLoop(l)) }

const switchName = "bench"

func newHost(l load) (*vswitch.Host, error) {
	h, err := vswitch.NewHost(&vswitch.HostConfig{Workers: l.cores})
	if err != nil {
		return nil, err
	}
	_, err = h.NewSwitch(switchName, &vswitch.SwitchConfig{MaxAddresses: l.addresses + l.ports + 16})
	return h, err
}

// plug connects a vNIC for each port. One that has several addresses may use all of them.
func plug(h *vswitch.Host, l load, backend func(i int) ports.Backend) error {
	each := l.addresses / l.ports
	for i := range l.ports {
		_, err := h.NewVNIC(portName(i), backend(i), &vswitch.VNICConfig{
			Switch:        switchName,
			MAC:           addr(i),
			AllowSpoofing: each > 1,
			MaxAddresses:  each + 1,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package sflow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Agent samples one switch at a time. It is an extension.Capture, and the switch calls its methods; only
// Stats is for others, from any goroutine.
type Agent struct {
	config Config
	queue  queue

	mu      sync.Mutex
	sources []*source // of connected ports

	running string // name of the switch
	stop    chan struct{}

	sending  sync.Mutex
	datagram *datagram
	spare    []sample // memory for the queue

	flowSamples, counterSamples, datagrams, sendErrors atomic.Uint64
}

var (
	_ extension.Capture   = (*Agent)(nil)
	_ extension.Lifecycle = (*Agent)(nil)
	_ extension.Starter   = (*Agent)(nil)
)

// New returns an agent for one switch. It sends nothing until the switch starts it.
func New(cfg *Config) (*Agent, error) {
	c, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: c, datagram: newDatagram(c.Agent, c.SubAgent), spare: make([]sample, 0, queueSamples),
		queue: queue{wake: make(chan struct{}, 1), samples: make([]sample, 0, queueSamples), budget: c.MaxRate},
	}
	a.datagram.send = a.send
	return a, nil
}

// Start implements extension.Starter: it begins to send. It returns an error when the agent serves a switch
// already.
func (a *Agent) Start(s extension.Switch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		return fmt.Errorf("sflow: the agent serves switch %q already", a.running)
	}
	a.running = s.Name()
	a.stop = make(chan struct{})
	go a.run(a.stop)
	return nil
}

// Stop implements extension.Starter: it sends the samples that wait, and ends what Start began. When it
// returns nothing is sent any more; a call of Config.Counters may still be under way. Start may be called
// again then.
func (a *Agent) Stop(extension.Switch) {
	a.mu.Lock()
	stop := a.stop
	a.stop = nil
	a.mu.Unlock()
	if stop != nil {
		close(stop)
		a.export(nil, nil)
	}
}

// Connect implements extension.Lifecycle: the port is a new data source, whose numbers begin at 0.
func (a *Agent) Connect(p *extension.Port) (state any, err error) {
	s := newSource(p, a.config.Rate, a.config.CounterInterval)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sources = append(a.sources, s)
	return s, nil
}

// Change implements extension.Lifecycle.
func (a *Agent) Change(_, p *extension.Port, state any) error {
	state.(*source).port.Store(p)
	return nil
}

// Disconnect implements extension.Lifecycle.
func (a *Agent) Disconnect(_ *extension.Port, state any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.sources, state.(*source)); i >= 0 {
		a.sources = slices.Delete(a.sources, i, i+1)
	}
}

// Capture implements extension.Capture.
func (a *Agent) Capture(b *extension.Batch) {
	s, ok := b.State().(*source)
	if !ok || b.Direction() == extension.Egress && !a.config.Egress {
		return
	}
	n := 0
	for i := range b.Len() {
		if b.Alive(i) {
			n++
		}
	}
	if before, chosen := s.pass(n); chosen != 0 {
		a.sample(b, s, before, chosen)
	}
}

// sample queues the chosen frames of b, of which the first alive has the number before + 1.
func (a *Agent) sample(b *extension.Batch, s *source, before, chosen uint64) {
	input, output := s.index(), uint32(0)
	if b.Direction() == extension.Egress {
		input, output = 0, input
		if p := b.Source(); p != nil {
			input = uint32(p.Index + 1)
		}
	}
	for i := range b.Len() {
		if !b.Alive(i) {
			continue
		}
		before++
		take := chosen&1 != 0
		if chosen >>= 1; !take {
			continue
		}
		queued := a.queue.push(func(x *sample) {
			x.source, x.pool, x.drops = s, before, s.drops.Load()
			x.input, x.output = input, output
			x.copy(b.Frame(i), a.config.HeaderLen)
		})
		if !queued {
			s.drops.Add(1)
		}
	}
}

// copy copies the first n bytes of f, as it is on the wire, and what else is sent of it. The head of a frame
// is at least that long when the frame is.
func (x *sample) copy(f *ports.Frame, n int) {
	const macsLen, tagLen = 12, 4
	x.frameLen = uint32(f.WireLen() + fcsLen)
	x.tagged, x.tci = f.VLAN.Present(), f.VLAN.TCI
	head, dst := f.Head(), x.header[:n]
	if !x.tagged || len(head) < macsLen {
		x.headerLen = copy(dst, head)
		return
	}
	copy(dst, head[:macsLen])
	binary.BigEndian.PutUint16(dst[macsLen:], f.VLAN.TPID)
	binary.BigEndian.PutUint16(dst[macsLen+2:], f.VLAN.TCI)
	x.headerLen = macsLen + tagLen + copy(dst[macsLen+tagLen:], head[macsLen:])
}

// Stats are the counters of an Agent since it was made.
type Stats struct {
	FlowSamples    uint64 // sent
	Dropped        uint64 // flow samples over MaxRate, or too many for the agent to send in time
	CounterSamples uint64 // sent
	Datagrams      uint64 // sent to each collector
	SendErrors     uint64 // datagrams that a collector's Write did not take
}

// Stats returns the counters.
func (a *Agent) Stats() Stats {
	s := Stats{
		FlowSamples: a.flowSamples.Load(), CounterSamples: a.counterSamples.Load(),
		Datagrams: a.datagrams.Load(), SendErrors: a.sendErrors.Load(),
	}
	a.queue.mu.Lock()
	defer a.queue.mu.Unlock()
	s.Dropped = a.queue.dropped
	return s
}

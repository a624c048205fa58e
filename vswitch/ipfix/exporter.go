package ipfix

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Exporter meters the flows of one switch at a time and exports them. It is an extension.Capture, and the
// switch calls its methods; only Stats is for others, from any goroutine.
type Exporter struct {
	config Config
	epoch  time.Time
	flows  atomic.Int64 // of all tables
	early  queue

	mu     sync.Mutex
	tables []*table // of connected ports
	gone   []*table // of disconnected ports, whose flows are to be reported

	running    string // name of the switch
	stop, done chan struct{}

	message *message // of the goroutine

	records, messages, sendErrors atomic.Uint64
}

var (
	_ extension.Capture   = (*Exporter)(nil)
	_ extension.Lifecycle = (*Exporter)(nil)
	_ extension.Starter   = (*Exporter)(nil)
)

// New returns an exporter for one switch. It does nothing until the switch starts it.
func New(cfg *Config) (*Exporter, error) {
	c, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Exporter{
		config: c, epoch: time.Now(), message: newMessage(c.Domain),
		early: queue{wake: make(chan struct{}, 1), budget: c.MaxRate},
	}, nil
}

// Start implements extension.Starter: it begins to export. It returns an error when the exporter serves a
// switch already.
func (e *Exporter) Start(s extension.Switch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != nil {
		return fmt.Errorf("ipfix: the exporter serves switch %q already", e.running)
	}
	e.running = s.Name()
	e.stop, e.done = make(chan struct{}), make(chan struct{})
	go e.run(e.stop, e.done)
	return nil
}

// Stop implements extension.Starter: it exports all flows, waits for that, and ends what Start began. Start
// may be called again then.
func (e *Exporter) Stop(extension.Switch) {
	e.mu.Lock()
	stop, done := e.stop, e.done
	e.stop, e.done = nil, nil
	e.mu.Unlock()
	if stop != nil {
		close(stop)
		<-done
	}
}

// Connect implements extension.Lifecycle.
func (e *Exporter) Connect(p *extension.Port) (state any, err error) {
	t := &table{exporter: e}
	t.port.Store(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tables = append(e.tables, t)
	return t, nil
}

// Change implements extension.Lifecycle.
func (e *Exporter) Change(_, p *extension.Port, state any) error {
	t := state.(*table)
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.port.Swap(p).Name != p.Name {
		t.named = false
	}
	return nil
}

// Disconnect implements extension.Lifecycle: the flows of the port end.
func (e *Exporter) Disconnect(_ *extension.Port, state any) {
	t := state.(*table)
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.tables, t); i >= 0 {
		e.tables = slices.Delete(e.tables, i, i+1)
		e.gone = append(e.gone, t)
	}
}

// Capture implements extension.Capture.
func (e *Exporter) Capture(b *extension.Batch) {
	t, ok := b.State().(*table)
	if !ok || b.Direction() != extension.Ingress {
		return
	}
	now := time.Since(e.epoch).Milliseconds()
	var packets [16]packet // parsed before the lock of the table is taken
	n := 0
	for i := range b.Len() {
		if !b.Alive(i) {
			continue
		}
		packets[n].read(b.Frame(i))
		if n++; n == len(packets) {
			t.meter(packets[:], now)
			n = 0
		}
	}
	if n > 0 {
		t.meter(packets[:n], now)
	}
}

// Stats are the counters of an Exporter since it was made.
type Stats struct {
	Flows       int    // metered now
	Records     uint64 // of flows, exported
	Evicted     uint64 // flows that made room for others
	LostPackets uint64 // of evicted flows that were not exported, over MaxRate or too fast for the host
	Messages    uint64 // sent to each collector
	SendErrors  uint64 // messages that a collector's Write did not take
}

// Stats returns the counters.
func (e *Exporter) Stats() Stats {
	s := Stats{
		Flows: int(e.flows.Load()), Records: e.records.Load(),
		Messages: e.messages.Load(), SendErrors: e.sendErrors.Load(),
	}
	e.early.mu.Lock()
	defer e.early.mu.Unlock()
	s.Evicted, s.LostPackets = e.early.evicted, e.early.lost
	return s
}

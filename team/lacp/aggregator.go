package lacp

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
)

// Never is the time of what does not happen.
const Never = time.Duration(math.MaxInt64)

// Config describes an Aggregator.
type Config struct {
	// System is the own system; its MAC is required. Priority 0 means DefaultPriority.
	System SystemID

	// Passive systems send nothing until they hear from their partner, so two of them never
	// form a group.
	Passive bool

	// Short asks the partner for one LACPDU a second, so that its silence is noticed within 3 s;
	// else it sends one in 30 s, and silence is noticed within 90 s (6.4.4).
	Short bool

	// MaxPorts is how many ports are used at once, 1–65535; the others stand by. 0 means all.
	MaxPorts int
}

// DefaultPriority is that of systems and ports that have none (table 6-1).
const DefaultPriority = 0x8000

// PortConfig describes a Port. A nil *PortConfig means the defaults.
type PortConfig struct {
	// Priority is the port's, 1–65535, the lower the sooner it is used; 0 means DefaultPriority.
	Priority uint16

	// Key is the port's key, 1–65535. 0 means one made of its speed, so that only ports of one
	// speed are aggregated (6.3.5).
	Key uint16
}

// Aggregator is one end of a link aggregation group: a system with an aggregator and its ports.
//
// Times are durations since any fixed moment and must not go back. Methods are for one goroutine at a
// time, those of its ports included.
type Aggregator struct {
	cfg      Config
	system   SystemID
	ports    []*Port       // by number
	selected group         // that the ports may join
	trial    time.Duration // until when it must have come into use; Never when it has
}

// New makes an aggregator without ports.
func New(cfg *Config) (*Aggregator, error) {
	if cfg == nil {
		return nil, errors.New("lacp: the configuration has no system address")
	}
	c := *cfg
	switch {
	case !c.System.MAC.IsUnicast():
		return nil, fmt.Errorf("lacp: system %v is not the address of a station", c.System.MAC)
	case c.MaxPorts < 0 || c.MaxPorts > math.MaxUint16:
		return nil, fmt.Errorf("lacp: MaxPorts %d is out of 1–65535", c.MaxPorts)
	}
	if c.System.Priority == 0 {
		c.System.Priority = DefaultPriority
	}
	return &Aggregator{cfg: c, system: c.System, trial: Never}, nil
}

// AddPort adds a port whose link is down. number is 1–65535 and no other port's.
func (a *Aggregator) AddPort(number int, cfg *PortConfig) (*Port, error) {
	if number < 1 || number > math.MaxUint16 {
		return nil, fmt.Errorf("lacp: port number %d is out of 1–65535", number)
	}
	at, found := slices.BinarySearchFunc(a.ports, uint16(number), func(p *Port, n uint16) int {
		return int(p.actor.Port.Number) - int(n)
	})
	if found {
		return nil, fmt.Errorf("lacp: port number %d is taken", number)
	}
	c := PortConfig{}
	if cfg != nil {
		c = *cfg
	}
	p := newPort(a, uint16(number), c)
	a.ports = slices.Insert(a.ports, at, p)
	return p, nil
}

// RemovePort removes a port, which must not be used afterwards.
func (a *Aggregator) RemovePort(now time.Duration, p *Port) {
	p.unselect()
	a.ports = slices.DeleteFunc(a.ports, func(o *Port) bool { return o == p })
	a.run(now)
}

// SetMaxPorts changes Config.MaxPorts; 0 means all.
func (a *Aggregator) SetMaxPorts(now time.Duration, n int) {
	a.cfg.MaxPorts = n
	a.run(now)
}

// Ports returns the ports by number. The slice must not be modified and is valid until one is added or
// removed.
func (a *Aggregator) Ports() []*Port { return a.ports }

// Partner returns the system and the key at the other end of the group, and false while there is none.
func (a *Aggregator) Partner() (SystemID, uint16, bool) {
	return a.selected.system, a.selected.key, a.selected != group{}
}

// Advance lets the timers run that have expired by now.
func (a *Aggregator) Advance(now time.Duration) { a.run(now) }

// Next returns when Advance has something to do, or Output something to give, if nothing happens until
// then; Never when nothing will. It may be too early.
func (a *Aggregator) Next() time.Duration {
	next := a.trial
	for _, p := range a.ports {
		next = min(next, p.next())
	}
	return next
}

// Output yields what is to be sent now, with the port on which: PDUs from their subtype on. The bytes are
// valid until the next one. What is yielded counts as sent.
func (a *Aggregator) Output(now time.Duration) iter.Seq2[*Port, []byte] {
	return func(yield func(*Port, []byte) bool) {
		buf := make([]byte, 0, PDULen)
		for _, p := range a.ports {
			for {
				pdu := p.transmit(now, buf)
				if pdu == nil {
					break
				}
				if !yield(p, pdu) {
					return
				}
			}
		}
	}
}

// run runs all machines until none of them moves. Each port moves through its states at most once before
// a timer or an event is needed again, so a few rounds are enough; the bound is there for certain.
func (a *Aggregator) run(now time.Duration) {
	for range 16 {
		moved := false
		for _, p := range a.ports {
			moved = p.runReceive(now) || moved
			p.runPeriodic(now)
		}
		moved = a.runSelection(now) || moved
		for _, p := range a.ports {
			moved = p.runMux(now) || moved
			p.runChurn(now)
		}
		if !moved {
			return
		}
	}
}

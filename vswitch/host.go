package vswitch

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/internal/toeplitz"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// HostConfig configures a Host. A nil *HostConfig or zero fields mean the defaults.
type HostConfig struct {
	// Name is what logs and errors call the host; may be empty.
	Name string

	// Workers is the number of goroutines that move frames, at most 256. A few serve many
	// ports. The default is half of GOMAXPROCS, at least 1 and at most 8.
	Workers int

	// Logger receives changes of configuration and link, and failures. The default discards.
	Logger *slog.Logger

	// Events, if not nil, is called with each Event, on the goroutine on which it was noticed. It
	// must not block and must not call the Host or what it holds.
	Events func(Event)

	// MACPool is where vNICs without a MAC of their own get one. The default is 256 locally
	// administered addresses, chosen at random.
	MACPool MACRange
}

// Host holds switches, physical NICs and vNICs, and the workers that move their frames. Its methods,
// and those of what it holds, may be called from any goroutine, but not from one that holds up the
// data path: a bell, a link event, a Logger.
type Host struct {
	name    string
	log     *slog.Logger
	event   func(Event)
	start   time.Time
	workers []*worker
	queues  atomic.Int64
	stop    chan struct{}
	stopped chan struct{}

	mu       sync.Mutex // all below, and the configuration of what they hold
	closed   bool
	switches map[string]*Switch
	nics     map[string]*NIC
	vnics    map[string]*VNIC
	teams    map[teamKey]*guestTeam
	macs     *macPool
	macOwner map[ports.MAC]*VNIC
	ids      map[string]bool // of switches and vNICs

	defaultHash *toeplitz.Hash // of RSS with the default key; nil until it is needed

	measured time.Duration // when the loads of the workers were
	calm     int           // passes for which they have been low
	settling int           // passes until queues may be moved again

	observers []extension.Binding // captures in front of the extensions of every switch
}

// NewHost returns a host without switches and starts its workers.
func NewHost(cfg *HostConfig) (*Host, error) {
	var c HostConfig
	if cfg != nil {
		c = *cfg
	}
	if c.Workers == 0 {
		c.Workers = max(1, min(8, runtime.GOMAXPROCS(0)/2))
	}
	if c.Workers < 0 || c.Workers > 256 {
		return nil, fmt.Errorf("host %q: %d workers are out of 1–256: %w", c.Name, c.Workers, ErrInvalid)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MACPool == (MACRange{}) {
		c.MACPool = defaultMACRange()
	}
	if err := c.MACPool.check(); err != nil {
		return nil, fmt.Errorf("host %q: %w", c.Name, err)
	}
	h := &Host{
		name:     c.Name,
		log:      c.Logger,
		event:    c.Events,
		start:    time.Now(),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
		switches: map[string]*Switch{},
		nics:     map[string]*NIC{},
		vnics:    map[string]*VNIC{},
		teams:    map[teamKey]*guestTeam{},
		macs:     newMACPool(c.MACPool),
		macOwner: map[ports.MAC]*VNIC{},
		ids:      map[string]bool{},
	}
	for range c.Workers {
		w := newWorker(h)
		h.workers = append(h.workers, w)
		go w.run()
	}
	go h.housekeeping()
	return h, nil
}

// Name returns the name the host was made with.
func (h *Host) Name() string { return h.name }

// MACPool returns the range from which vNICs get their dynamic addresses.
func (h *Host) MACPool() MACRange { return h.macs.r }

// Close deletes everything on the host, closes the backends and ends the workers.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	var errs []error
	for _, v := range h.vnics {
		errs = append(errs, v.delete())
	}
	for _, s := range h.switches {
		s.delete()
	}
	for _, n := range h.nics {
		errs = append(errs, n.delete())
	}
	h.mu.Unlock()

	for _, w := range h.workers {
		w.stop()
	}
	close(h.stop)
	<-h.stopped
	return errors.Join(errs...)
}

// Switch returns the switch of that name, or nil.
func (h *Host) Switch(name string) *Switch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.switches[name]
}

// Switches returns the switches in the order of their names.
func (h *Host) Switches() []*Switch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sortedByName(h.switches)
}

func sortedByName[T any](m map[string]T) []T {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, strings.Compare)
	l := make([]T, 0, len(m))
	for _, n := range names {
		l = append(l, m[n])
	}
	return l
}

// clock returns the time since the host was made.
func (h *Host) clock() time.Duration { return time.Since(h.start) }

// now returns the clock in units of fdbTick; never 0.
func (h *Host) now() uint32 { return fdbTime(h.clock()) }

func fdbTime(clock time.Duration) uint32 { return uint32(clock/fdbTick) + 1 }

func (h *Host) nextQueue() int { return int(h.queues.Add(1) - 1) }

// housekeeping forgets addresses and connections that have aged, and balances the load of the workers.
func (h *Host) housekeeping() {
	defer close(h.stopped)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for tick := 0; ; tick++ {
		select {
		case <-t.C:
			for _, s := range h.Switches() {
				s.fdb.sweep(h.now())
				if tick%expireOverlay == 0 {
					s.expireOverlay()
				}
			}
			for _, c := range h.connections() {
				c.Sweep(h.clock())
			}
			h.balance()
		case <-h.stop:
			return
		}
	}
}

// connections returns what the vNICs remember, be they connected and have an ACL now or not.
func (h *Host) connections() (all []*acl.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.vnics {
		if c := v.policy.connections; c != nil {
			all = append(all, c)
		}
	}
	return all
}

// synchronize waits until no worker holds a snapshot, a queue or a frame from before the call.
func (h *Host) synchronize() {
	for _, w := range h.workers {
		w.quiesce()
	}
}

// queueFailed is called by a worker whose queue is dead; it is not served any more.
func (h *Host) queueFailed(q *rxQueue, err error) {
	if q.removed.Swap(true) {
		return
	}
	if q.port.up.Swap(false) {
		q.port.sw.flushPort(q.port.index)
		q.port.sw.uplinkChanged(q.port, false)
	}
	if errors.Is(err, ports.ErrClosed) {
		h.log.Info("backend closed", "switch", q.port.sw.name, "port", q.port.name)
	} else {
		h.log.Error("backend failed", "switch", q.port.sw.name, "port", q.port.name, "error", err)
	}
}

// checkNew says why nothing new of that kind and name can be made.
func (h *Host) checkNew(kind, name string) error {
	switch {
	case h.closed:
		return fmt.Errorf("%s %q: host %q: %w", kind, name, h.name, ErrClosed)
	case name == "" || len(name) > maxName:
		return fmt.Errorf("%s %q: a name has 1 to %d bytes: %w", kind, name, maxName, ErrInvalid)
	}
	return nil
}

// checkNewPort is checkNew for what can be the port of a switch: all of these have different names.
func (h *Host) checkNewPort(kind, name string) error {
	switch {
	case h.vnics[name] != nil:
		return fmt.Errorf("%s %q: a vNIC of that name: %w", kind, name, ErrExists)
	case h.nics[name] != nil:
		return fmt.Errorf("%s %q: a NIC of that name: %w", kind, name, ErrExists)
	}
	return h.checkNew(kind, name)
}

const maxName = 255

// newID takes the id want, or when that is empty a random one.
func (h *Host) newID(want string) (string, error) {
	if want == "" {
		want = rand.Text()
	}
	if h.ids[want] {
		return "", fmt.Errorf("ID %q: %w", want, ErrExists)
	}
	h.ids[want] = true
	return want, nil
}

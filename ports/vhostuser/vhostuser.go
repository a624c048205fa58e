package vhostuser

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Config describes the device that the guest sees. A nil *Config or zero fields mean the defaults.
type Config struct {
	// Name is that of the port in Info and in logs; default the last element of the path.
	Name string

	// ServeConfig offers the device configuration to the VMM (VHOST_USER_PROTOCOL_F_CONFIG): MAC, link
	// state, Queues and MTU are then those of the port. crosvm wants it, and so does the vhost-user-device
	// of QEMU. Cloud Hypervisor, DPDK and -netdev vhost-user of QEMU make a configuration themselves, and
	// the last warns of a port that offers one.
	ServeConfig bool

	// MAC is the address in the device configuration; zero offers none.
	MAC ports.MAC

	// MTU is the longest payload of a frame to the guest in bytes, 68–65535; default 1500. The
	// guest is told (VIRTIO_NET_F_MTU); a VMM may lower it (VHOST_USER_NET_SET_MTU).
	MTU int

	// Queues is the number of queue pairs, 1–128; default 1. A guest may use fewer: frames for
	// the others are spread over those.
	Queues int

	// Disable names offloads that are neither offered to the guest nor reported by Info.
	Disable ports.Offloads

	// BusyPoll is how long a receive queue that has become empty asks to be polled before it
	// asks the guest for notifications, at most 1 s; default 0. A longer time costs processor
	// time of the switch, and saves that of the guest and the delay of a wake-up.
	BusyPoll time.Duration

	// Log gets what happens to connections and rings; default nothing is logged.
	Log *slog.Logger
}

const (
	minMTU      = 68 // RFC 791
	maxMTU      = 65535
	maxQueues   = 128
	maxBusyPoll = time.Second

	maxPath = 107 // sun_path of unix(7) without its final 0
)

// ErrConfig is what errors of Listen and Dial about their arguments wrap.
var ErrConfig = errors.New("invalid configuration")

func (c *Config) complete(path string) (Config, error) {
	var d Config
	if c != nil {
		d = *c
	}
	if d.MTU == 0 {
		d.MTU = 1500
	}
	if d.Queues == 0 {
		d.Queues = 1
	}
	if d.Name == "" {
		d.Name = filepath.Base(path)
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case path == "" || len(path) > maxPath:
		return d, fmt.Errorf("%w: path of %d bytes is out of 1–%d", ErrConfig, len(path), maxPath)
	case d.MTU < minMTU || d.MTU > maxMTU:
		return d, fmt.Errorf("%w: MTU %d is out of %d–%d", ErrConfig, d.MTU, minMTU, maxMTU)
	case d.Queues < 1 || d.Queues > maxQueues:
		return d, fmt.Errorf("%w: Queues %d is out of 1–%d", ErrConfig, d.Queues, maxQueues)
	case !d.MAC.IsZero() && !d.MAC.IsUnicast():
		return d, fmt.Errorf("%w: MAC %v is not that of a station", ErrConfig, d.MAC)
	case d.BusyPoll < 0 || d.BusyPoll > maxBusyPoll:
		return d, fmt.Errorf("%w: BusyPoll %v is out of 0–%v", ErrConfig, d.BusyPoll, maxBusyPoll)
	}
	return d, nil
}

// offloads returns those that are left, without those that need one that is not.
func (c *Config) offloads() ports.Offloads {
	o := ports.OffloadAll &^ c.Disable
	if o&ports.OffloadChecksum == 0 {
		return 0
	}
	if o&(ports.OffloadTCP4|ports.OffloadTCP6) == 0 {
		o &^= ports.OffloadECN
	}
	return o
}

// Port is the device. Its methods may be called from any goroutine, those of a queue from one at a
// time.
//
// The link is up while a driver of a guest has a pair of rings in use. A VMM may go and another, or
// the same, may come: the port stays. While nobody is there Send returns ports.ErrLinkDown and nothing
// is received.
//
// Its receive queues implement ports.Notifier. The first ports.HeadLen bytes of a frame that Recv adds
// are in memory of the batch, the rest is memory of the guest, which the guest may change while it is
// read. It stays mapped until Release, whatever happens to the connection, but the VMM can truncate
// it: whoever reads the body of a frame does so under debug.SetPanicOnFault. Send does that, for its
// own guest and for the memory of frames that come from another.
//
// Send completes checksums and cuts segments itself for a guest that negotiated less than
// Info().Offloads. A frame for which the buffers of the guest are too small, because its driver did
// not negotiate mergeable ones, is refused with ports.ErrFrameSize.
type Port struct {
	dev *device
}

var (
	_ ports.Backend     = &Port{}
	_ ports.LinkWatcher = &Port{}
)

// Stats counts what guests sent and did not pass, and what became of their rings, since the port was
// opened.
type Stats struct {
	TooLong     uint64 // frames longer than ports.MaxFrame
	Malformed   uint64 // frames without a whole Ethernet header, or with an impossible offload request
	Discarded   uint64 // frames that came while the ring was disabled or the link was set down
	Connections uint64 // that front-ends made
	Broken      uint64 // rings that were stopped because the guest or the VMM broke the rules
}

// Listen makes a port that waits for front-ends at a unix socket: server mode. It serves one
// connection after the other. A socket at path at which nobody listens any more is replaced. Close
// removes it.
//
// Errors wrap ErrConfig or that of the system, such as syscall.EADDRINUSE.
func Listen(path string, cfg *Config) (*Port, error) {
	c, err := cfg.complete(path)
	if err == nil {
		var d *device
		if d, err = listen(path, &c); err == nil {
			return &Port{d}, nil
		}
	}
	return nil, fmt.Errorf("vhost-user %q: listen: %w", path, err)
}

// Dial makes a port that connects to the unix socket of a front-end: client mode. It returns at once
// and connects as soon as somebody listens there, again after each disconnection; attempts are 20 ms
// to 1 s apart.
//
// Errors wrap ErrConfig.
func Dial(path string, cfg *Config) (*Port, error) {
	c, err := cfg.complete(path)
	if err == nil {
		var d *device
		if d, err = dial(path, &c); err == nil {
			return &Port{d}, nil
		}
	}
	return nil, fmt.Errorf("vhost-user %q: dial: %w", path, err)
}

// Info implements ports.Backend.
func (p *Port) Info() ports.Info { return p.dev.info }

// Rx implements ports.Backend.
func (p *Port) Rx(i int) ports.RxQueue { return p.dev.rx(i) }

// Tx implements ports.Backend.
func (p *Port) Tx(i int) ports.TxQueue { return p.dev.tx(i) }

// Link implements ports.LinkWatcher. Its speed is not known.
func (p *Port) Link() ports.Link { return ports.Link{Up: p.dev.linkUp()} }

// WatchLink implements ports.LinkWatcher. Changes are told in their order, one at a time; changed may
// use the port, but not close it.
func (p *Port) WatchLink(changed func(ports.Link)) { p.dev.watchLink(changed) }

// SetLink pulls the cable, or plugs it in again; it is in at first. While it is out the link is down,
// and what the guest sends is discarded. The guest is told (VIRTIO_NET_F_STATUS) if the VMM gets the
// device configuration from here (Config.ServeConfig); another guest only sees that nothing passes.
func (p *Port) SetLink(up bool) { p.dev.setLink(up) }

// Stats returns the counters.
func (p *Port) Stats() Stats { return p.dev.stats() }

// Err returns why the last connection ended or the last ring was stopped, nil if that has not
// happened.
func (p *Port) Err() error { return p.dev.lastError() }

// Close implements ports.Backend. It ends the connection and waits for calls of queues that run.
func (p *Port) Close() error { return p.dev.close() }

// RingError says why a ring was stopped: the guest or the VMM broke the rules of virtio. It goes on
// when the VMM starts it anew, as it does with the next driver or connection.
type RingError struct {
	Ring int // index of the virtqueue; even ones are those on which the guest receives
	Err  error
}

// Error implements error.
func (e *RingError) Error() string { return fmt.Sprintf("virtqueue %d: %v", e.Ring, e.Err) }

// Unwrap returns the cause.
func (e *RingError) Unwrap() error { return e.Err }

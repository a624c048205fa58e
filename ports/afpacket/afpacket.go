package afpacket

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/hvswitch/hvswitch/ports"
)

// Config says how to open an interface. A nil *Config or zero fields mean the defaults.
type Config struct {
	// Queues is the number of queues in each direction, 1–256; default 1. The kernel spreads
	// what it receives over them by a hash of the flow (PACKET_FANOUT), so that a flow stays on
	// one queue. The flows of frames that are sent are the caller's to spread.
	Queues int

	// Ring is the number of frames that each receive queue holds until they are released, at
	// most 65536, rounded up to a power of two of at least 32; default 2048. Each takes 2 KiB of
	// memory.
	Ring int

	// ReceiveBuffer bounds, in bytes for each queue, what the kernel holds of received frames
	// that are longer than a place in the ring: large segments, jumbo frames. Default 8 MiB. Without
	// CAP_NET_ADMIN it is cut to net.core.rmem_max.
	ReceiveBuffer int

	// SendBuffer bounds, in bytes for each queue, what has been sent and not left the machine
	// yet; default 4 MiB. Without CAP_NET_ADMIN it is cut to net.core.wmem_max.
	SendBuffer int

	// NoPromiscuous restricts what is received to frames for the interface's own address,
	// broadcasts and the multicast Groups. The default receives everything, which a switch needs.
	NoPromiscuous bool

	// Groups are at most 512 multicast addresses to join, whether NoPromiscuous or not.
	Groups []ports.MAC

	// BypassQdisc hands what is sent straight to the driver (PACKET_QDISC_BYPASS): past traffic
	// control and unseen by tcpdump on this machine.
	BypassQdisc bool

	// NoCoalescing delivers each TCP segment as it arrived. By default those of a flow that arrive
	// one behind the other become one frame of at most 45 segments that asks for segmentation, as
	// generic receive offload (GRO) of the kernel makes them; whoever cuts it gets the frames that
	// arrived. It is of use where neither the sender nor the kernel has joined them already, and
	// their destination takes such frames. GRO of the interface, where it has that, costs less:
	// ethtool -K eth0 gro on.
	NoCoalescing bool

	filterOutgoing bool // do as on kernels before 4.20; for tests
}

const (
	maxQueues = 256 // PACKET_FANOUT_MAX before Linux 5.10
	maxRing   = 1 << 16
	minRing   = 32  // what fits the least block of memory that is asked of the kernel
	maxGroups = 512 // keeps the filter below the 4096 instructions that the kernel takes

	// What a socket buffer may be set to. The kernel doubles the number in an int.
	maxBuffer = math.MaxInt32 / 2
)

// complete checks c and puts in the defaults.
func (c *Config) complete() (Config, error) {
	var d Config
	if c != nil {
		d = *c
	}
	for _, f := range []struct {
		name                 string
		value                *int
		least, most, initial int
	}{
		{"Queues", &d.Queues, 1, maxQueues, 1},
		{"Ring", &d.Ring, 1, maxRing, 2048},
		{"ReceiveBuffer", &d.ReceiveBuffer, 1, maxBuffer, 8 << 20},
		{"SendBuffer", &d.SendBuffer, 1, maxBuffer, 4 << 20},
	} {
		if *f.value == 0 {
			*f.value = f.initial
		}
		if *f.value < f.least || *f.value > f.most {
			return d, fmt.Errorf("%w: %s %d is out of %d–%d", ErrConfig, f.name, *f.value, f.least, f.most)
		}
	}
	if len(d.Groups) > maxGroups {
		return d, fmt.Errorf("%w: %d Groups are more than %d", ErrConfig, len(d.Groups), maxGroups)
	}
	for _, g := range d.Groups {
		if !g.IsGroup() {
			return d, fmt.Errorf("%w: %v among Groups is no multicast address", ErrConfig, g)
		}
	}
	d.Ring = max(1<<bits.Len(uint(d.Ring-1)), minRing)
	return d, nil
}

// ErrConfig is what errors of Open about Config wrap.
var ErrConfig = errors.New("invalid configuration")

// Error is what Open and, once the interface is gone, RxQueue.Recv return. The cause works with
// errors.Is: ErrConfig, os.ErrPermission, unix.ENODEV where there is no such interface,
// errors.ErrUnsupported on other systems than Linux.
type Error struct {
	Interface string // its name
	Op        string // what failed, such as "open" or "map ring"
	Err       error  // why
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("packet socket on %q: %s: %v", e.Interface, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Stats counts received frames that were not passed on as they arrived, all queues together.
type Stats struct {
	Dropped   uint64 // no room in the ring or in the receive buffer
	TooLong   uint64 // longer than ports.MaxFrame
	Malformed uint64 // no whole Ethernet header, or a segmentation that no frame can describe
	Coalesced uint64 // passed on as a part of the frame in front
}

// Interface is an open network interface. It implements ports.Backend and ports.LinkWatcher; its
// receive queues implement ports.Pollable.
//
// Frames that Recv lends lie in memory shared with the kernel, which does not write it before
// Release, or in memory of the batch. They must not be looked at after Close, which unmaps the ring.
//
// When the link goes down, or the interface is set down, Send returns ports.ErrLinkDown until it is
// up again, and Recv returns no frames. When the interface is removed or moved to another namespace,
// Recv returns an *Error that wraps unix.ENODEV: it does not come back, even if another one takes its
// name.
type Interface struct{ device }

var (
	_ ports.Backend     = &Interface{}
	_ ports.LinkWatcher = &Interface{}
)

// Open opens the network interface of that name, which must be an Ethernet one, in the network
// namespace of the calling thread. It need not be up.
//
// Open turns large receive offload (LRO) of the interface off, as a bridge does, because the frames
// that it merges cannot be sent on.
func Open(name string, cfg *Config) (*Interface, error) {
	i := &Interface{}
	c, err := cfg.complete()
	if err != nil {
		return nil, &Error{Interface: name, Op: "open", Err: err}
	}
	if err := i.open(name, c); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

// Info implements ports.Backend. MTU and Name are those when the interface was opened.
func (i *Interface) Info() ports.Info { return i.info() }

// Rx implements ports.Backend.
func (i *Interface) Rx(n int) ports.RxQueue { return i.rxQueue(n) }

// Tx implements ports.Backend. A frame that the kernel has no room for, in the send buffer or in a
// queue of the interface, makes Send come up short.
func (i *Interface) Tx(n int) ports.TxQueue { return i.txQueue(n) }

// Link implements ports.LinkWatcher. The link is up when the interface is set up and has carrier; of
// a closed Interface it is down.
func (i *Interface) Link() ports.Link { return i.link() }

// WatchLink implements ports.LinkWatcher. The function is called on a goroutine of the Interface, and
// not for Close.
func (i *Interface) WatchLink(changed func(ports.Link)) { i.watchLink(changed) }

// Stats returns the counters since Open.
func (i *Interface) Stats() Stats { return i.stats() }

// Close implements ports.Backend.
func (i *Interface) Close() error { return i.close() }

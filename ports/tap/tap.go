// Package tap is the backend of a Linux TAP device: a network interface of the kernel at one end of
// the cable, the switch at the other.
//
//	port, err := tap.Open(&tap.Config{Name: "vm1", MTU: 9000, Queues: 2})
//	if err != nil {
//		return err // tap "vm1": attach: creating a TAP needs CAP_NET_ADMIN: operation not permitted
//	}
//	defer port.Close()
//
// What the kernel sends on the interface is received, what is sent appears there as received by the
// kernel. Checksums and segmentation pass through in both directions, so a TCP segment of 64 KiB
// crosses as one frame with one system call.
//
// The interface is gone after Close, unless it was made to persist by someone else (ip tuntap add).
// It may be renamed or moved to another network namespace meanwhile, in which it goes on working.
// The package holds no packet of its own: an idle TAP costs its descriptors.
package tap

import (
	"fmt"
	"strings"

	"github.com/hvswitch/hvswitch/ports"
)

// Config describes a TAP. A nil *Config or zero fields mean the defaults.
type Config struct {
	// Name is that of the interface, 1–15 bytes. An interface that exists already is used when
	// it is a TAP that nobody has open. A %d in it is replaced by the first free number; the
	// default is tap%d.
	Name string

	// MAC is the address of the interface; zero leaves it to the kernel.
	MAC ports.MAC

	// MTU is that of the interface in bytes, 68–65521; 0 leaves it as it is, 1500 for a new one.
	MTU int

	// Queues is the number of queues in each direction, 1–256; default 1. The kernel keeps the
	// frames of a flow in one queue, and sends a flow to the queue on which it receives from it.
	Queues int

	// Disable names offloads not to be used. By default all are that the kernel knows.
	Disable ports.Offloads

	// KeepDown leaves the interface as it is. By default it is brought up.
	KeepDown bool
}

const (
	maxName   = 15 // IFNAMSIZ - 1
	minMTU    = 68
	maxMTU    = 65535 - 14
	maxQueues = 256 // MAX_TAP_QUEUES of the kernel
)

func (c *Config) check() error {
	switch {
	case len(c.Name) > maxName:
		return fmt.Errorf("tap %q: the name is longer than %d bytes", c.Name, maxName)
	case c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/: \t\n\v\f\r\x00") || strings.IndexByte(c.Name, 0xa0) >= 0:
		return fmt.Errorf("tap %q: the name is not one that an interface can have", c.Name)
	case strings.Contains(strings.Replace(c.Name, "%d", "", 1), "%"):
		return fmt.Errorf("tap %q: the name has a %% that does not belong to a single %%d", c.Name)
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return fmt.Errorf("tap %q: MTU %d is out of %d–%d", c.Name, c.MTU, minMTU, maxMTU)
	case c.Queues < 0 || c.Queues > maxQueues:
		return fmt.Errorf("tap %q: %d queues are out of 1–%d", c.Name, c.Queues, maxQueues)
	case !c.MAC.IsZero() && !c.MAC.IsUnicast():
		return fmt.Errorf("tap %q: MAC %v is not that of a station", c.Name, c.MAC)
	}
	return nil
}

// TAP is an open TAP device. Its methods may be called from any goroutine, those of a queue from one
// at a time.
//
// Its receive queues implement ports.Pollable. Frames received may have their VLAN tag among the
// bytes; their memory is that of the batch.
//
// Send waits for nobody: what the kernel has no room for, it drops. While the interface is down Send
// returns ports.ErrLinkDown and nothing is received. When somebody deletes the interface, both
// return an error that wraps EBADFD, and of Send also ports.ErrLinkDown; only Close helps then.
// Another error of Send, such as EFAULT when memory of a guest is not there, concerns the first frame
// not sent.
type TAP struct {
	dev *device
}

var (
	_ ports.Backend     = &TAP{}
	_ ports.LinkWatcher = &TAP{}
)

// Open makes a TAP, or attaches to one that exists. It needs CAP_NET_ADMIN, or an interface that was
// made for this user (ip tuntap add … user …) and is set up as Config wants it.
//
// Errors name the interface and what was tried, and wrap that of the system: fs.ErrPermission,
// fs.ErrNotExist without /dev/net/tun, EBUSY when the interface is in use, EINVAL when it is not a
// TAP.
func Open(cfg *Config) (*TAP, error) {
	c := Config{}
	if cfg != nil {
		c = *cfg
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = "tap%d"
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	d, err := open(&c)
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", c.Name, err)
	}
	return &TAP{dev: d}, nil
}

// FromFD makes a TAP of descriptors that somebody else has attached to an interface, such as
// libvirt for a VMM: one for each queue, with IFF_TAP and IFF_NO_PI, the lack of which cannot be seen.
// Without IFF_VNET_HDR there are no offloads. It needs no rights.
//
// The descriptors become those of the TAP, which makes them non-blocking; after an error they are
// still the caller's. So is the setup of the interface: of cfg only Disable and MTU count, Name, MAC
// and Queues must be zero. MTU is what Info is to tell; 0 asks the interface, and means 1500 when
// that is in a network namespace that cannot be seen.
func FromFD(cfg *Config, fds ...int) (*TAP, error) {
	c := Config{}
	if cfg != nil {
		c = *cfg
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	switch {
	case c.Name != "" || c.Queues != 0 || !c.MAC.IsZero():
		return nil, fmt.Errorf("tap: descriptors %v: name, MAC and queues are theirs", fds)
	case len(fds) < 1 || len(fds) > maxQueues:
		return nil, fmt.Errorf("tap: %d descriptors are out of 1–%d", len(fds), maxQueues)
	}
	d, err := adopt(&c, fds)
	if err != nil {
		return nil, err
	}
	return &TAP{dev: d}, nil
}

// Info implements ports.Backend. Name is the one the interface got, MTU the one it had when it was
// opened, MAC its own.
func (t *TAP) Info() ports.Info { return t.dev.info }

// Rx implements ports.Backend.
func (t *TAP) Rx(i int) ports.RxQueue { return t.dev.rx(i) }

// Tx implements ports.Backend.
func (t *TAP) Tx(i int) ports.TxQueue { return t.dev.tx(i) }

// SetMAC gives the interface another address, such as that of the vNIC it became. Info keeps the one
// it had when it was opened.
func (t *TAP) SetMAC(mac ports.MAC) error {
	if !mac.IsUnicast() {
		return fmt.Errorf("tap %q: MAC %v is not that of a station", t.dev.info.Name, mac)
	}
	return t.dev.setMAC(mac)
}

// Link implements ports.LinkWatcher: the link is up while the interface is. Its speed is not known.
func (t *TAP) Link() ports.Link { return ports.Link{Up: t.dev.up()} }

// WatchLink implements ports.LinkWatcher. Changes are told in their order, one at a time; changed may
// use the TAP. They are not told when the process may not listen to the network namespace that the
// interface is in, which Link and Send do not mind.
func (t *TAP) WatchLink(changed func(ports.Link)) { t.dev.watchLink(changed) }

// Dropped returns how many frames of the kernel were dropped because their offload request cannot be
// carried or they are longer than ports.MaxFrame.
func (t *TAP) Dropped() uint64 { return t.dev.dropped() }

// Close implements ports.Backend. It waits for calls of queues that run.
func (t *TAP) Close() error { return t.dev.close() }

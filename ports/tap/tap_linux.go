package tap

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

const cloneDevice = "/dev/net/tun"

// device is a TAP: all its queues.
type device struct {
	info   ports.Info
	hdr    int // bytes of the virtio-net header in front of each frame
	queues []*queue

	gone, fault error // made once, because a sender could make us make many

	mu     sync.Mutex // held while the descriptor is used besides the queues
	closed bool
	watch  watch
}

func open(c *Config) (*device, error) {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if usable(c.Disable) != 0 {
		flags |= unix.IFF_VNET_HDR
	}
	if c.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	var fds []int
	fail := func(err error) (*device, error) {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	name := c.Name
	for range c.Queues {
		fd, got, err := attach(name, flags)
		if errors.Is(err, unix.EINVAL) && c.Queues == 1 {
			// It may exist as one that could have more queues.
			fd, got, err = attach(name, flags|unix.IFF_MULTI_QUEUE)
		}
		if err != nil {
			return fail(err)
		}
		name = got
		fds = append(fds, fd)
	}
	d := newDevice(name, fds, flags)
	if err := d.negotiate(c.Disable); err != nil {
		return fail(err)
	}
	if err := d.setUp(c); err != nil {
		return fail(err)
	}
	return d, nil
}

// attach opens one more queue of the interface and returns the name that it has.
func attach(name string, flags uint16) (fd int, got string, err error) {
	fd, err = unix.Open(cloneDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("open %s: %w", cloneDevice, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		return fd, ifr.Name(), nil
	}
	unix.Close(fd)
	switch err {
	case unix.EPERM:
		err = fmt.Errorf("attach: creating a TAP needs CAP_NET_ADMIN: %w", err)
	case unix.EBUSY:
		err = fmt.Errorf("attach: somebody has it open: %w", err)
	case unix.EINVAL:
		err = fmt.Errorf("attach: there is an interface of this name, which is not such a TAP: %w", err)
	default:
		err = fmt.Errorf("attach: %w", err)
	}
	return -1, "", err
}

func adopt(c *Config, fds []int) (*device, error) {
	var first tunState
	for i, fd := range fds {
		s, err := stateOf(fd)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tap: descriptor %d is not attached to a TAP: %w", fd, err)
		case s.flags&unix.IFF_TAP == 0:
			return nil, fmt.Errorf("tap %q: descriptor %d is that of a TUN", s.name, fd)
		case i == 0:
			first = s
		case s.name != first.name:
			return nil, fmt.Errorf("tap %q: descriptor %d belongs to %q", first.name, fd, s.name)
		}
	}
	d := newDevice(first.name, fds, first.flags)
	err := d.adopt(c)
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", first.name, err)
	}
	return d, nil
}

func (d *device) adopt(c *Config) error {
	for _, q := range d.queues {
		if err := unix.SetNonblock(q.fd, true); err != nil {
			return fmt.Errorf("make descriptor %d non-blocking: %w", q.fd, err)
		}
	}
	// With a bound on what the kernel has not read yet, the link could not be told from the
	// descriptor, see up; nor would waiting for one receiver do good to a switch.
	const unbounded = 1<<31 - 1
	if err := unix.IoctlSetPointerInt(d.queues[0].fd, unix.TUNSETSNDBUF, unbounded); err != nil {
		return fmt.Errorf("set send buffer: %w", err)
	}
	if err := d.negotiate(c.Disable); err != nil {
		return err
	}
	mac, err := macOf(d.queues[0].fd)
	if err != nil {
		return fmt.Errorf("get MAC: %w", err)
	}
	d.info.MAC, d.info.MTU = mac, c.MTU
	if c.MTU != 0 {
		return nil
	}
	d.info.MTU = 1500
	if i, err := d.control(); err == nil {
		defer i.close()
		if mtu, err := i.mtu(); err == nil {
			d.info.MTU = mtu
		}
	}
	return nil
}

func newDevice(name string, fds []int, flags uint16) *device {
	d := &device{
		info:  ports.Info{Name: name, RxQueues: len(fds), TxQueues: len(fds)},
		gone:  fmt.Errorf("tap %q: the interface is gone: %w (%w)", name, ports.ErrLinkDown, unix.EBADFD),
		fault: fmt.Errorf("tap %q: write: %w", name, unix.EFAULT),
	}
	if flags&unix.IFF_VNET_HDR != 0 {
		d.hdr = vnethdr.Size
	}
	for _, fd := range fds {
		d.queues = append(d.queues, newQueue(d, fd))
	}
	return d
}

// usable returns the offloads that are left, without those that need one that is not.
func usable(disable ports.Offloads) ports.Offloads {
	o := ports.OffloadAll &^ disable
	if o&ports.OffloadChecksum == 0 {
		return 0
	}
	if o&(ports.OffloadTCP4|ports.OffloadTCP6) == 0 {
		o &^= ports.OffloadECN
	}
	return o
}

// negotiate agrees with the kernel on the offload header and on what it may leave to us. In the
// other direction it accepts the same.
func (d *device) negotiate(disable ports.Offloads) error {
	if d.hdr == 0 {
		return nil
	}
	fd := d.queues[0].fd // these are settings of the interface
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, d.hdr); err != nil {
		return fmt.Errorf("set length of the offload header: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1); err != nil {
		return fmt.Errorf("set byte order of the offload header: %w", err)
	}
	want := usable(disable)
	err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads(want))
	if err == unix.EINVAL && want&ports.OffloadUDP != 0 { // Linux < 6.2
		want &^= ports.OffloadUDP
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads(want))
	}
	if err != nil {
		return fmt.Errorf("set offloads: %w", err)
	}
	d.info.Offloads = want
	return nil
}

func tunOffloads(o ports.Offloads) (f int) {
	for _, p := range []struct {
		o ports.Offloads
		f int
	}{
		{ports.OffloadChecksum, unix.TUN_F_CSUM},
		{ports.OffloadTCP4, unix.TUN_F_TSO4},
		{ports.OffloadTCP6, unix.TUN_F_TSO6},
		{ports.OffloadUDP, unix.TUN_F_USO4 | unix.TUN_F_USO6},
		{ports.OffloadECN, unix.TUN_F_TSO_ECN},
	} {
		if o&p.o != 0 {
			f |= p.f
		}
	}
	return f
}

// setUp makes the interface what c wants it to be, touching only what is different.
func (d *device) setUp(c *Config) error {
	fd := d.queues[0].fd
	mac, err := macOf(fd)
	if err != nil {
		return fmt.Errorf("get MAC: %w", err)
	}
	if !c.MAC.IsZero() && c.MAC != mac {
		if err := setMAC(fd, c.MAC); err != nil {
			return fmt.Errorf("set MAC %v: %w", c.MAC, err)
		}
		mac = c.MAC
	}
	i, err := d.control()
	if err != nil {
		return err
	}
	defer i.close()
	mtu, err := i.mtu()
	if err != nil {
		return fmt.Errorf("get MTU: %w", err)
	}
	if c.MTU != 0 && c.MTU != mtu {
		if err := i.setMTU(c.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", c.MTU, err)
		}
		mtu = c.MTU
	}
	d.info.MAC, d.info.MTU = mac, mtu
	if !c.KeepDown {
		if err := i.bringUp(); err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
	}
	return nil
}

func (d *device) rx(i int) ports.RxQueue { return &d.queues[i].rx }
func (d *device) tx(i int) ports.TxQueue { return &d.queues[i].tx }

func (d *device) dropped() (n uint64) {
	for _, q := range d.queues {
		n += q.rx.dropped.Load()
	}
	return n
}

func (d *device) setMAC(m ports.MAC) error {
	d.mu.Lock() // so that the descriptor stays open
	defer d.mu.Unlock()
	if d.closed {
		return ports.ErrClosed
	}
	if err := setMAC(d.queues[0].fd, m); err != nil {
		return fmt.Errorf("tap %q: set MAC %v: %w", d.info.Name, m, err)
	}
	return nil
}

func (d *device) close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was {
		return nil
	}
	d.endWatch()
	var err error
	for _, q := range d.queues {
		q.rx.gate.shut()
		q.tx.gate.shut()
		err = errors.Join(err, unix.Close(q.fd))
	}
	if err != nil {
		return fmt.Errorf("tap %q: close: %w", d.info.Name, err)
	}
	return nil
}

// tunState is what the kernel tells of a descriptor: the flags that it was attached with, except
// IFF_NO_PI, whose bit says IFF_NOFILTER here.
type tunState struct {
	name  string
	flags uint16
}

func stateOf(fd int) (tunState, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return tunState{}, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return tunState{}, os.NewSyscallError("TUNGETIFF", err)
	}
	return tunState{name: ifr.Name(), flags: ifr.Uint16()}, nil
}

// macOf and setMAC work on the descriptor of a TAP, wherever its interface is.
func macOf(fd int) (ports.MAC, error) {
	var r ifreqAddr
	err := r.ioctl(fd, unix.SIOCGIFHWADDR)
	return ports.MAC(r.addr[:6]), err
}

func setMAC(fd int, m ports.MAC) error {
	r := ifreqAddr{family: unix.ARPHRD_ETHER}
	copy(r.addr[:], m[:])
	return r.ioctl(fd, unix.SIOCSIFHWADDR)
}

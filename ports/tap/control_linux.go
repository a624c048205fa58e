package tap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is a socket in the namespace of the interface, for what only its name can be asked for.
type control struct {
	sock int
	name string
}

// control finds the interface by its descriptor. Where the namespace had to be guessed, it sees to it
// that the name there is that of this interface.
func (d *device) control() (*control, error) {
	tap := d.queues[0].fd
	s, err := stateOf(tap)
	if err != nil {
		return nil, err
	}
	ns, err := namespaceOfTAP(tap)
	if err != nil {
		return nil, fmt.Errorf("find network namespace: %w", err)
	}
	defer unix.Close(ns)
	sock, err := socketIn(ns, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	var byName ifreqAddr
	copy(byName.name[:], s.name)
	err = byName.ioctl(sock, unix.SIOCGIFHWADDR)
	if mac, err2 := macOf(tap); err != nil || err2 != nil || mac != [6]byte(byName.addr[:6]) {
		unix.Close(sock)
		return nil, fmt.Errorf("find the interface: %w", unix.ENODEV)
	}
	return &control{sock: sock, name: s.name}, nil
}

func (c *control) close() { unix.Close(c.sock) }

func (c *control) mtu() (int, error) {
	ifr, err := c.get(unix.SIOCGIFMTU)
	if err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

func (c *control) setMTU(mtu int) error {
	ifr, err := unix.NewIfreq(c.name)
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(c.sock, unix.SIOCSIFMTU, ifr)
}

func (c *control) bringUp() error {
	ifr, err := c.get(unix.SIOCGIFFLAGS)
	if err != nil || ifr.Uint16()&unix.IFF_UP != 0 {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(c.sock, unix.SIOCSIFFLAGS, ifr)
}

func (c *control) get(req uint) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(c.name)
	if err != nil {
		return nil, err
	}
	return ifr, unix.IoctlIfreq(c.sock, req, ifr)
}

// ifreqAddr is the form of struct ifreq with a link-layer address, netdevice(7). It is no shorter
// than the kernel's.
type ifreqAddr struct {
	name   [unix.IFNAMSIZ]byte
	family uint16
	addr   [14]byte
	_      [8]byte
}

func (r *ifreqAddr) ioctl(fd int, req uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

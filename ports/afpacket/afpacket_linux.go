package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/coalesce"
	"github.com/hvswitch/hvswitch/ports"
)

// device is the Linux side of an Interface: one socket for each pair of queues, and the watcher of
// the link.
type device struct {
	name   string
	about  ports.Info
	rx     []*rxQueue // own the descriptors
	tx     []*txQueue
	links  *linkSocket
	closed atomic.Bool
	lost   error // what Recv returns once the interface is gone

	state atomic.Pointer[ports.Link]
	watch atomic.Pointer[func(ports.Link)]
	up    atomic.Bool  // state.Up, for Send
	gone  atomic.Bool  // the interface was removed
	mtu   atomic.Int32 // now
}

func (d *device) open(name string, c Config) error {
	d.name = name
	d.lost = &Error{Interface: name, Op: "receive", Err: fmt.Errorf("the interface was removed: %w", unix.ENODEV)}
	fail := func(op string, err error) error { return &Error{Interface: name, Op: op, Err: err} }
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		// The header of PACKET_VNET_HDR is in the byte order of the machine.
		return fail("open", errors.New("big-endian machines are not supported"))
	}
	var err error
	if d.links, err = openLinkSocket(); err != nil {
		return fail("watch link", err)
	}
	now, err := d.links.find(name)
	if err != nil {
		return fail("open", err)
	}
	if now.hardware != unix.ARPHRD_ETHER {
		return fail("open", errors.New("it is not an Ethernet interface"))
	}
	ifi := &net.Interface{Index: now.index, Name: name, MTU: now.mtu, HardwareAddr: now.mac[:]}
	for range c.Queues {
		fd, step, err := openSocket(ifi, &c)
		if err != nil {
			return fail(step, err)
		}
		rx := &rxQueue{dev: d, fd: fd}
		if !c.NoCoalescing {
			rx.join = new(coalesce.Coalescer)
		}
		d.rx = append(d.rx, rx)
		d.tx = append(d.tx, &txQueue{dev: d, fd: fd})
		if err := rx.mapRing(c.Ring); err != nil {
			return fail("map ring", err)
		}
	}
	if step, err := d.start(ifi.Index, &c); err != nil {
		return fail(step, err)
	}
	d.about = ports.Info{
		Name:     name,
		MAC:      now.mac,
		MTU:      now.mtu,
		RxQueues: c.Queues,
		TxQueues: c.Queues,
		Offloads: sendOffloads(),
	}
	d.change(now)
	d.links.disableLRO(name)
	go d.links.run(now.index, d.change)
	return nil
}

// start lets frames in. Until all sockets share the work, each refuses what it is offered: it would
// be received several times.
func (d *device) start(index int, c *Config) (step string, err error) {
	filter := receiveFilter(c)
	group := uint16(0)
	for n, q := range d.rx {
		fd := q.fd
		if err := attachFilter(fd, refuseAll); err != nil {
			return "attach filter", err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index}); err != nil {
			return "bind", err
		}
		if len(d.rx) == 1 {
			break
		}
		if group, err = joinFanout(fd, n, group); err != nil {
			return "join fanout", err
		}
	}
	for _, q := range d.rx {
		if err := attachFilter(q.fd, filter); err != nil {
			return "attach filter", err
		}
	}
	return "", nil
}

func (d *device) info() ports.Info            { return d.about }
func (d *device) rxQueue(n int) ports.RxQueue { return d.rx[n] }
func (d *device) txQueue(n int) ports.TxQueue { return d.tx[n] }

func (d *device) link() ports.Link {
	if l := d.state.Load(); l != nil && !d.closed.Load() {
		return *l
	}
	return ports.Link{}
}

func (d *device) watchLink(changed func(ports.Link)) {
	if changed == nil {
		d.watch.Store(nil)
		return
	}
	d.watch.Store(&changed)
}

// change takes note of the state of the link. It is called by Open, then by one goroutine.
func (d *device) change(s linkState) {
	now := ports.Link{Up: s.up, Speed: s.speed}
	was := d.state.Swap(&now)
	d.mtu.Store(int32(s.mtu))
	d.up.Store(s.up)
	d.gone.Store(s.gone)
	if was == nil || *was == now || d.closed.Load() {
		return
	}
	if f := d.watch.Load(); f != nil {
		(*f)(now)
	}
}

func (d *device) stats() Stats {
	var s Stats
	for _, q := range d.rx {
		q.addStats(&s)
	}
	return s
}

func (d *device) close() error {
	if d.closed.Swap(true) {
		return nil
	}
	if d.links != nil {
		d.links.close()
	}
	for _, q := range d.tx {
		q.close()
	}
	var errs []error
	for _, q := range d.rx {
		errs = append(errs, q.close())
	}
	if err := errors.Join(errs...); err != nil {
		return &Error{Interface: d.name, Op: "close", Err: err}
	}
	return nil
}

package sock

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// dgram is a datagram socket: it sees to it that it is connected to its peer, so that nobody else's
// frames arrive, those of the peer are not bound by net.unix.max_dgram_qlen, and no path is looked up
// for a frame.
type dgram struct {
	mon  *monitor
	link *link
	rx   rxDgram
	tx   txDgram

	mu     sync.Mutex // taken before those of the queues
	closed bool
	fd     int
	file   *socketFile
	remote string // empty when it is whoever sends first
	up     bool   // there is a peer
	peer   string // its path
	last   error  // why there is none

	fixed bool   // it came with its peer, and ends with it
	watch *watch // of fd: for whoever calls while there is no peer, else for room
	timer *time.Timer
	pause time.Duration
}

func newDgram(fd int, fixed bool, c *Config, l *link) (*dgram, error) {
	if err := setSendBuffer(fd, c.SendBuffer); err != nil {
		return nil, err
	}
	m, err := useMonitor()
	if err != nil {
		return nil, err
	}
	p, err := newPollSet(m)
	if err != nil {
		m.leave()
		return nil, err
	}
	d := &dgram{mon: m, link: l, fd: fd, fixed: fixed, pause: firstPause}
	d.rx.poll, d.rx.fd = p, -1
	d.tx.lost, d.tx.name, d.tx.mtu, d.tx.fd = d.lost, c.Name, c.MTU, -1
	if d.watch, err = m.watch(fd, 0, d.event); err != nil {
		p.close()
		m.leave()
		return nil, err
	}
	return d, nil
}

func openDgram(local, remote string, c *Config, l *link) (device, error) {
	fd, err := newSocket(unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	d, err := newDgram(fd, false, c, l)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d.remote = remote
	if err := d.open(local); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dgram) open(local string) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file, err = bind(d.fd, local); err != nil {
		return err
	}
	d.find(false)
	return nil
}

// event is called by the monitor.
func (d *dgram) event(*watch, uint32) {
	d.mu.Lock()
	up := d.up
	d.mu.Unlock()
	if up || d.fixed {
		d.tx.resume()
	} else {
		d.look(true)
	}
}

// look finds out whether the peer is there: now and then, when somebody calls while there is none, and
// when it seems to have gone.
func (d *dgram) look(called bool) {
	defer d.link.tell()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.find(called)
	}
}

func (d *dgram) find(called bool) {
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.up {
		d.connect(d.peer) // finds out whether it is still there
	}
	if !d.up && d.remote != "" {
		d.connect(d.remote)
	}
	if !d.up && d.remote == "" {
		d.connectCaller()
	}
	switch {
	case d.up:
		d.pause = firstPause
		d.lookAfter(lastPause)
	case d.remote != "":
		d.lookAfter(d.pause)
		d.pause = min(2*d.pause, lastPause)
		if !called { // else somebody else calls, who would go on doing so
			d.watch.arm(unix.EPOLLIN)
		}
	default:
		d.watch.arm(unix.EPOLLIN)
	}
}

func (d *dgram) lookAfter(pause time.Duration) {
	d.timer = time.AfterFunc(pause, func() { d.look(false) })
}

// connect connects to the socket at path. That changes nothing when it is connected already.
func (d *dgram) connect(path string) {
	err := os.NewSyscallError("connect", unix.Connect(d.fd, &unix.SockaddrUnix{Name: path}))
	if err == nil {
		err = d.attach()
	}
	if err != nil {
		d.detach()
	}
	d.peer, d.last = path, err
}

// connectCaller connects to the first who has sent something and can be answered. What he sent stays,
// to be received.
func (d *dgram) connectCaller() {
	for range slots {
		var b [1]byte
		_, from, err := unix.Recvfrom(d.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if from, ok := from.(*unix.SockaddrUnix); ok && from.Name != "" {
			if d.connect(from.Name); d.up {
				return
			}
		}
		_, _ = recv(d.fd, b[:])
	}
}

// attach lets frames pass.
func (d *dgram) attach() error {
	if err := d.rx.attach(d.fd); err != nil {
		return err
	}
	d.tx.attach(d.fd, d.watch)
	d.up = true
	d.link.set(true)
	return nil
}

// detach is called when there is no peer. Whoever comes then is not kept from sending by the kernel.
func (d *dgram) detach() {
	if !d.up {
		return
	}
	d.up = false
	d.rx.detach()
	d.tx.detach()
	disconnect(d.fd)
	d.link.set(false)
}

// disconnect makes a datagram socket one without a peer, connect(2).
func disconnect(fd int) {
	unspecified := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), unsafe.Sizeof(unspecified))
}

// lost is called when the kernel says that the peer has gone.
func (d *dgram) lost(errno unix.Errno) {
	if !d.fixed {
		d.look(false)
		return
	}
	defer d.link.tell()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.up, d.last = false, fmt.Errorf("the peer went away: %w: %w", io.EOF, errno)
	d.rx.fail(wrap(d.tx.name, d.last))
	d.link.set(false)
}

func (d *dgram) rxQueue() ports.RxQueue { return &d.rx }
func (d *dgram) txQueue() ports.TxQueue { return &d.tx }
func (d *dgram) stats() Stats           { return d.rx.stats() }

func (d *dgram) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ports.ErrClosed
	}
	return d.last
}

func (d *dgram) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	d.watch.stop()
	if d.file != nil {
		d.file.remove()
	}
	d.tx.close()
	d.rx.close()
	_ = unix.Shutdown(d.fd, unix.SHUT_RDWR) // which a copy of the descriptor does not prevent
	unix.Close(d.fd)
	d.mon.leave()
	return nil
}

package tap

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/linkwatch"
	"github.com/hvswitch/hvswitch/ports"
)

// up tells whether the interface is up. The descriptor knows it in whatever namespace the interface
// is: a TAP is writable while it is up and its send buffer, which has no bound, has room
// (tun_chr_poll of Linux; before 5.2 it is always writable). Carrier would tell nothing more: it is
// ours to set, and it is there while the descriptor is open.
func (d *device) up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	p := []unix.PollFd{{Fd: int32(d.queues[0].fd), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && p[0].Revents&(unix.POLLOUT|unix.POLLERR) == unix.POLLOUT
		}
	}
}

// watch is who wants to know of the link of a device.
type watch struct {
	linkwatch.Watch

	// Guarded by listeners.
	at    *listener
	index int32
}

func (d *device) watchLink(changed func(ports.Link)) {
	d.watch.Set(changed, d.up)
	if changed == nil {
		listeners.remove(d)
		return
	}
	listeners.add(d)
	d.tell() // of what happened before the listener was there
}

func (d *device) endWatch() {
	listeners.remove(d)
	d.tell()
}

// tell tells the watcher of a change.
func (d *device) tell() { d.watch.Tell(d.up) }

// listener hears of the links of one network namespace by rtnetlink(7). What it hears is only the
// occasion to look: the truth is in device.up.
type listener struct {
	ns   namespace
	fd   int
	file *os.File // fd, in the runtime's poller
	taps map[int32][]*device
}

// listeners are those of the process, each there while it has a TAP to listen for.
var listeners listenerSet

type listenerSet struct {
	mu   sync.Mutex
	byNS map[namespace]*listener
}

func (s *listenerSet) add(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.watch.at == nil {
		s.follow(d)
	}
}

func (s *listenerSet) remove(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(d)
}

// follow puts d on the listener of the namespace in which its interface is, or on none when the
// interface is gone or the process may not listen there.
func (s *listenerSet) follow(d *device) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	tap := d.queues[0].fd
	for range 3 { // it may be moved meanwhile, even twice
		ns, err := namespaceOfTAP(tap)
		if err != nil {
			return
		}
		err = s.join(d, tap, ns)
		unix.Close(ns)
		if err == nil && isIn(tap, d.watch.at.ns) {
			return
		}
		s.leave(d)
	}
}

func isIn(tap int, ns namespace) bool {
	fd, err := namespaceOfTAP(tap)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	now, err := namespaceOf(fd)
	return err == nil && now == ns
}

func (s *listenerSet) join(d *device, tap, nsfd int) error {
	ns, err := namespaceOf(nsfd)
	if err != nil {
		return err
	}
	l := s.byNS[ns]
	if l == nil {
		if l, err = newListener(ns, nsfd); err != nil {
			return err
		}
		if s.byNS == nil {
			s.byNS = make(map[namespace]*listener)
		}
		s.byNS[ns] = l
		go l.listen()
	}
	index, err := l.indexOf(tap)
	if err != nil {
		s.dropIfIdle(l)
		return err
	}
	l.taps[index] = append(l.taps[index], d)
	d.watch.at, d.watch.index = l, index
	return nil
}

func (s *listenerSet) leave(d *device) {
	l, i := d.watch.at, d.watch.index
	if l == nil {
		return
	}
	d.watch.at = nil
	l.taps[i] = slices.DeleteFunc(l.taps[i], func(other *device) bool { return other == d })
	if len(l.taps[i]) == 0 {
		delete(l.taps, i)
	}
	s.dropIfIdle(l)
}

func (s *listenerSet) dropIfIdle(l *listener) {
	if len(l.taps) == 0 && s.byNS[l.ns] == l {
		delete(s.byNS, l.ns)
		l.file.Close()
	}
}

func newListener(ns namespace, nsfd int) (*listener, error) {
	fd, err := socketIn(nsfd, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &listener{ns: ns, fd: fd, file: os.NewFile(uintptr(fd), "rtnetlink"), taps: make(map[int32][]*device)}, nil
}

// indexOf finds the interface of a TAP in the listener's namespace.
func (l *listener) indexOf(tap int) (int32, error) {
	s, err := stateOf(tap)
	if err != nil {
		return 0, err
	}
	ifr, err := unix.NewIfreq(s.name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(l.fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int32(ifr.Uint32()), nil
}

func (l *listener) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.file.Read(buf)
		switch {
		case err == nil:
			l.hear(buf[:n])
		case errors.Is(err, unix.ENOBUFS): // some messages are lost
			for _, d := range listeners.of(l, 0) {
				listeners.moved(d, l)
				d.tell()
			}
		default: // closed
			return
		}
	}
}

func (l *listener) hear(b []byte) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return
	}
	for _, m := range messages {
		if len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		family, index := m.Data[0], int32(binary.NativeEndian.Uint32(m.Data[4:]))
		for _, d := range listeners.of(l, index) {
			// A bridge deletes its ports too, in a family of its own.
			if m.Header.Type == unix.RTM_DELLINK && family == unix.AF_UNSPEC {
				listeners.moved(d, l)
			}
			d.tell()
		}
	}
}

// of returns the devices with this index, or all with index 0.
func (s *listenerSet) of(l *listener, index int32) []*device {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index != 0 {
		return slices.Clone(l.taps[index])
	}
	var all []*device
	for _, ds := range l.taps {
		all = append(all, ds...)
	}
	return all
}

// moved puts d, whose interface may have left the namespace of l, on the right listener, or on none
// when it is gone.
func (s *listenerSet) moved(d *device, l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.watch.at != l {
		return // it has been closed, or moved, meanwhile
	}
	s.leave(d)
	s.follow(d)
}

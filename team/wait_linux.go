package team

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fdSet is an epoll instance, which is readable while one of its descriptors is. One of them is for
// sources without.
type fdSet struct {
	epoll int
	event int // eventfd
	awake atomic.Bool
}

func newFDSet() (*fdSet, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &fdSet{epoll: ep, event: ev}
	if err := s.add(ev); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *fdSet) descriptor() int { return s.epoll }

func (s *fdSet) add(fd int) error {
	err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// remove fails when the descriptor is closed, which is as good.
func (s *fdSet) remove(fd int) { _ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

// wake makes the set readable until hush.
func (s *fdSet) wake() {
	if !s.awake.Swap(true) {
		one := [8]byte{1}
		_, _ = unix.Write(s.event, one[:])
	}
}

func (s *fdSet) hush() {
	if s.awake.Load() {
		var b [8]byte
		_, _ = unix.Read(s.event, b[:])
		s.awake.Store(false)
	}
}

func (s *fdSet) close() {
	unix.Close(s.epoll)
	unix.Close(s.event)
}

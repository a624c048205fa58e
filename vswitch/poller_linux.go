package vswitch

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller waits for an epoll instance by way of the runtime's poller, so that no thread is blocked.
//
// What the runtime knows is another epoll instance, outer, that has the one in question in it with no events but
// while the worker waits here. Otherwise each frame that wakes a worker elsewhere would wake the runtime too.
type poller struct {
	epoll int
	outer int
	file  *os.File // outer
	conn  syscall.RawConn
}

func newPoller(epoll int) (*poller, error) {
	outer, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &poller{epoll: epoll, outer: outer}
	if err = p.ctl(unix.EPOLL_CTL_ADD, 0); err == nil {
		err = unix.SetNonblock(outer, true)
	}
	if err == nil {
		p.file = os.NewFile(uintptr(outer), "epoll")
		p.conn, err = p.file.SyscallConn()
	}
	if err != nil {
		unix.Close(outer)
		return nil, err
	}
	return p, nil
}

func (p *poller) ctl(op int, events uint32) error {
	return unix.EpollCtl(p.outer, op, p.epoll, &unix.EpollEvent{Events: events, Fd: int32(p.epoll)})
}

// wait calls try until it returns true, first at once and then whenever something is ready.
func (p *poller) wait(try func(uintptr) bool) {
	p.ctl(unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	p.conn.Read(try)
	p.ctl(unix.EPOLL_CTL_MOD, 0)
}

func (p *poller) close() { p.file.Close() }

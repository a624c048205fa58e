package sock

import (
	"os"

	"golang.org/x/sys/unix"
)

// pollSet is an epoll instance, to be waited for in place of descriptors that come and go.
type pollSet struct {
	epoll    int
	readable int // always is
	rung     bool
}

func newPollSet(m *monitor) (pollSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return pollSet{}, os.NewSyscallError("epoll_create", err)
	}
	return pollSet{epoll: fd, readable: m.readable}, nil
}

func (p *pollSet) add(fd int) error {
	err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	return os.NewSyscallError("epoll_ctl", err)
}

func (p *pollSet) remove(fd int) {
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// ring makes the set readable whatever is in it, or no more.
func (p *pollSet) ring(on bool) {
	if on == p.rung {
		return
	}
	if on {
		p.rung = p.add(p.readable) == nil
	} else {
		p.remove(p.readable)
		p.rung = false
	}
}

func (p *pollSet) close() { unix.Close(p.epoll) }

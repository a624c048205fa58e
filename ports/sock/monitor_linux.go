package sock

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// monitor waits for what no queue waits for, on behalf of all sockets of the process: a peer that
// comes or goes, room for the rest of a frame. It is an epoll instance, itself waited for by the
// runtime's poller, and one goroutine. As it does not ask for EPOLLIN of a connection, frames do not
// wake it.
type monitor struct {
	epoll int
	file  *os.File // epoll
	raw   syscall.RawConn

	// readable is an eventfd that always is, for queues that hold frames in memory.
	readable int

	mu      sync.Mutex
	watches map[int32]*watch
	lastID  int32
}

// watch waits for events of one descriptor.
type watch struct {
	mon  *monitor
	fd   int
	id   int32
	call func(w *watch, events uint32)
}

// monitors has the one of the process, which is there while it has users.
var monitors struct {
	mu    sync.Mutex
	one   *monitor
	users int
}

func useMonitor() (*monitor, error) {
	monitors.mu.Lock()
	defer monitors.mu.Unlock()
	if monitors.one == nil {
		m, err := newMonitor()
		if err != nil {
			return nil, err
		}
		monitors.one = m
		go m.run()
	}
	monitors.users++
	return monitors.one, nil
}

// leave is called once for each useMonitor, when all watches have been stopped.
func (m *monitor) leave() {
	monitors.mu.Lock()
	defer monitors.mu.Unlock()
	if monitors.users--; monitors.users == 0 {
		monitors.one = nil
		m.file.Close()
		unix.Close(m.readable)
	}
}

func newMonitor() (*monitor, error) {
	m := &monitor{watches: map[int32]*watch{}}
	var err error
	if m.readable, err = unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if m.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		unix.Close(m.readable)
		return nil, os.NewSyscallError("epoll_create", err)
	}
	if err = unix.SetNonblock(m.epoll, true); err == nil {
		m.file = os.NewFile(uintptr(m.epoll), "epoll")
		m.raw, err = m.file.SyscallConn()
	}
	if err != nil {
		unix.Close(m.epoll)
		unix.Close(m.readable)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return m, nil
}

func (m *monitor) run() {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := m.raw.Read(func(uintptr) bool {
			n, _ = unix.EpollWait(m.epoll, events[:], 0)
			return n > 0
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			m.mu.Lock()
			w := m.watches[e.Fd]
			m.mu.Unlock()
			if w != nil {
				w.call(w, e.Events)
			}
		}
	}
}

// watch calls the function on the monitor's goroutine when one of the events occurs, or EPOLLHUP or
// EPOLLERR: once, until the watch is armed again.
func (m *monitor) watch(fd int, events uint32, call func(w *watch, events uint32)) (*watch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.lastID++; m.watches[m.lastID] != nil; m.lastID++ {
	}
	w := &watch{mon: m, fd: fd, id: m.lastID, call: call}
	if err := w.ctl(unix.EPOLL_CTL_ADD, events); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	m.watches[w.id] = w
	return w, nil
}

func (w *watch) ctl(op int, events uint32) error {
	return unix.EpollCtl(w.mon.epoll, op, w.fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: w.id})
}

// arm waits for events again, in place of those it waits for.
func (w *watch) arm(events uint32) { _ = w.ctl(unix.EPOLL_CTL_MOD, events) }

// stop ends the watch. A call may still be running.
func (w *watch) stop() {
	w.mon.mu.Lock()
	defer w.mon.mu.Unlock()
	delete(w.mon.watches, w.id)
	_ = w.ctl(unix.EPOLL_CTL_DEL, 0)
}

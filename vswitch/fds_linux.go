package vswitch

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fdSet waits for many descriptors at once: an epoll instance. Each descriptor is waited for once
// (EPOLLONESHOT): the frames that arrive while its queue is polled wake nobody.
//
// A worker sleeps in the runtime's poller, where it occupies no thread. That wakes it some six microseconds
// late, which in a round trip is half as long again. So when it has been woken it lingers: for a while it
// waits in epoll itself for what comes next.
type fdSet struct {
	epoll   int
	doors   int // eventfd
	timer   int // timerfd, as the runtime's timers are late by up to a millisecond
	poller  *poller
	worker  *worker
	try     func(uintptr) bool // poll, as the poller wants it
	events  [64]unix.EpollEvent
	until   time.Duration // that the timer is set to; 0 when it is not
	lingers time.Duration // until when the worker does

	mu     sync.Mutex
	queues map[int32]*rxQueue
	nextID int32
}

// lingerTime is for how long a worker lingers: it keeps a thread and, what is worse where they are few, one of
// the GOMAXPROCS processors from other goroutines.
const lingerTime = time.Millisecond

// Numbers of descriptors that are of no queue.
const (
	doorsID = iota
	timerID
	firstID
)

func newFDSet(w *worker) (*fdSet, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	tm, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		unix.Close(ev)
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	s := &fdSet{epoll: ep, doors: ev, timer: tm, worker: w, queues: map[int32]*rxQueue{}, nextID: firstID}
	s.try = func(uintptr) bool { return s.poll() }
	err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: doorsID})
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, tm, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerID})
	}
	if err == nil {
		s.poller, err = newPoller(ep)
	}
	if err != nil {
		unix.Close(ep)
		unix.Close(ev)
		unix.Close(tm)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return s, nil
}

func (s *fdSet) add(q *rxQueue) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.fdID = s.nextID
	s.nextID++
	s.queues[q.fdID] = q
	if err := s.ctl(unix.EPOLL_CTL_ADD, q); err != nil {
		delete(s.queues, q.fdID)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (s *fdSet) ctl(op int, q *rxQueue) error {
	return unix.EpollCtl(s.epoll, op, q.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: q.fdID})
}

func (s *fdSet) remove(q *rxQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queues, q.fdID)
	s.ctl(unix.EPOLL_CTL_DEL, q) // fails when it is closed, which is as good
}

// arm waits for the descriptor of a queue, from now on or after a while.
func (s *fdSet) arm(q *rxQueue, after time.Duration) {
	if after > 0 {
		time.AfterFunc(after, func() { s.arm(q, 0) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues[q.fdID] == q {
		s.ctl(unix.EPOLL_CTL_MOD, q)
	}
}

// poll puts the queues whose descriptors are readable on the list of the ready, without waiting.
func (s *fdSet) poll() bool { return s.ask(0) }

// ask is poll that waits for so many milliseconds, or for ever when they are negative.
func (s *fdSet) ask(timeout int) bool {
	n, err := unix.EpollWait(s.epoll, s.events[:], timeout)
	if err != nil || n <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events[:n] {
		switch e.Fd {
		case doorsID:
			var b [8]byte
			unix.Read(s.doors, b[:])
		case timerID:
			s.set(0, 0)
		default:
			if q := s.queues[e.Fd]; q != nil {
				s.worker.list(q)
			}
		}
	}
	return true
}

// wait waits until a descriptor is readable or wake is called, or until a time unless that is 0. It may return
// without any of that.
func (s *fdSet) wait(until time.Duration) {
	now := s.worker.clock
	lingers := s.lingering()
	if lingers && (until == 0 || s.lingers < until) {
		until = s.lingers
	}
	if until != s.until {
		s.set(until, now)
	}
	if lingers {
		s.ask(-1)
		return
	}
	s.poller.wait(s.try)
	s.lingers = s.worker.host.clock() + lingerTime
}

// lingering reports whether the worker was woken by the runtime's poller a moment ago.
func (s *fdSet) lingering() bool { return s.worker.clock < s.lingers }

// set makes the timer wake whoever waits at a time, or not at all when that is 0.
func (s *fdSet) set(until, now time.Duration) {
	s.until = until
	after := time.Duration(0)
	if until > 0 {
		after = max(until-now, 1)
	}
	unix.TimerfdSettime(s.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}, nil)
}

func (s *fdSet) wake() {
	one := [8]byte{1}
	unix.Write(s.doors, one[:])
}

func (s *fdSet) close() {
	s.poller.close()
	unix.Close(s.epoll)
	unix.Close(s.doors)
	unix.Close(s.timer)
}

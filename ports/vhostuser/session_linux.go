package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

var errGone = errors.New("the front-end closed the connection")

// session is one connection of a front-end. Its goroutine is the only one that uses it, except for what
// is guarded by device.mu.
type session struct {
	channel
	dev      *device
	messages int
	features uint64
	protocol uint64
	mem      *memory
	log      *dirtyLog
	inflight *inflight
	kicks    []*kick // by pair
	mtu      int     // that of the device until the front-end sets one

	back      int // back-end channel, or -1; guarded by device.mu
	tellsBack bool
}

func newSession(d *device, c *net.UnixConn) *session {
	return &session{
		channel: channel{conn: c},
		dev:     d,
		kicks:   make([]*kick, d.cfg.Queues),
		mtu:     d.cfg.MTU,
		back:    -1,
	}
}

// run handles messages until the front-end goes or breaks the rules.
func (s *session) run() error {
	var m message
	for {
		err := s.read(&m)
		if err == nil {
			s.messages++
			err = s.handle(&m)
		}
		m.close()
		if err == io.EOF {
			return errGone
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", m.request, err)
		}
	}
}

// handle handles a message and answers it.
func (s *session) handle(m *message) error {
	h, ok := handlers[m.request]
	err := errRequest
	if ok {
		err = errPayload
		if h.payload < 0 || len(m.payload) == h.payload {
			err = h.handle(s, m)
		}
	}
	s.dev.log.Debug("message", "request", uint32(m.request), "error", err)
	if m.flags&flagNeedReply != 0 && s.protocol&protoReplyAck != 0 && !h.replies {
		if err != nil {
			s.dev.failed(fmt.Errorf("message %d: %w", m.request, err))
			s.dev.log.Warn("message refused", "request", uint32(m.request), "error", err)
			return s.replyU64(m, 1)
		}
		return s.replyU64(m, 0)
	}
	return err
}

// end takes everything back.
func (s *session) end() {
	s.conn.Close()
	for i, v := range s.dev.rings {
		s.closeKick(i)
		v.mu.Lock()
		v.stop()
		v.release()
		v.closeFDs()
		v.size, v.base, v.address = 0, 0, ringAddress{}
		v.kicked, v.enabled, v.broken = false, false, false
		v.features, v.log, v.inflight = 0, nil, nil
		v.resend, v.resent, v.notes = nil, nil, nil
		v.entries, v.usedList, v.chain = nil, nil, nil
		v.mu.Unlock()
	}
	s.mem.drop()
	s.log.unmap()
	s.inflight.unmap()
	s.dev.mu.Lock()
	s.setBack(-1)
	s.dev.mu.Unlock()
}

func (v *ring) closeFDs() {
	for _, fd := range []*int{&v.call, &v.errfd} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// closeKick ends listening for the notifications of a ring.
func (s *session) closeKick(ring int) {
	if ring%2 == 1 {
		s.kicks[ring/2].close()
		s.kicks[ring/2] = nil
	}
}

// with calls f with a ring locked, and makes everything follow that depends on it.
func (s *session) with(v *ring, f func() error) error {
	v.mu.Lock()
	err := f()
	if e := v.update(); err == nil {
		err = e
	}
	v.mu.Unlock()
	s.settle(v)
	return err
}

// settle makes the device follow a change of a ring.
func (s *session) settle(v *ring) {
	s.dev.refresh()
	if v.index%2 == 1 {
		s.dev.rxs[v.index/2].bell.event()
	}
}

// setMemory replaces the memory table, of which the session was the only user.
func (s *session) setMemory(m *memory) (err error) {
	for _, v := range s.dev.rings {
		if v.index%2 == 1 {
			v.calm()
		} else {
			v.mu.Lock()
		}
		if e := v.setMemory(m); err == nil {
			err = e
		}
		v.mu.Unlock()
		s.settle(v)
	}
	s.mem.drop()
	s.mem = m
	return err
}

// setBack sets the back-end channel; under device.mu.
func (s *session) setBack(fd int) {
	if s.back >= 0 {
		unix.Close(s.back)
	}
	s.back = fd
}

// configChanged tells the front-end that it should read the device configuration again; under device.mu. A
// front-end that does not read is not waited for.
func (s *session) configChanged() {
	if s.back >= 0 && s.tellsBack {
		_ = unix.Sendmsg(s.back, appendHeader(nil, backConfigChange, 0, 0), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
}

// regions returns the regions of the table, for a new one.
func (s *session) regions() []*region {
	if s.mem == nil {
		return nil
	}
	return slices.Clone(s.mem.regions)
}

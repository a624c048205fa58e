package vhostuser

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var errEventFD = errors.New("descriptor is not an eventfd")

// adoptEventFD makes an eventfd of the front-end ready for use, and closes it if it is something else:
// to read or write that could do anything.
func adoptEventFD(fd int) error {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != 0 || unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return errEventFD
	}
	return nil
}

// one is the number 1 as an eventfd wants it; every machine that this runs on is little-endian.
var one = [8]byte{1}

// signal adds 1 to an eventfd. One that is full says so already.
func signal(fd int) { _, _ = unix.Write(fd, one[:]) }

// bell is the bell of a receive queue, see ports.Notifier.
type bell struct {
	armed atomic.Bool
	ring  atomic.Pointer[func()]
}

func (b *bell) set(ring func()) {
	if ring == nil {
		b.ring.Store(nil)
	} else {
		b.ring.Store(&ring)
	}
}

// event rings if that was asked for.
func (b *bell) event() {
	if b.armed.Load() && b.armed.CompareAndSwap(true, false) {
		if ring := b.ring.Load(); ring != nil {
			(*ring)()
		}
	}
}

// kick hears the notifications of a driver and rings the bell.
type kick struct {
	stop func()
	done chan struct{}
}

// listenKick listens to an eventfd, which becomes its own, until close.
//
// It reads each time that something is written, not as long as there is something to read: whoever holds
// the other end decides how long that is.
func listenKick(fd int, b *bell) (*kick, error) {
	file := os.NewFile(uintptr(fd), "kick")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	k := &kick{func() { file.Close() }, make(chan struct{})}
	go func() {
		defer close(k.done)
		var count [8]byte
		_ = conn.Read(func(fd uintptr) bool {
			_, _ = unix.Read(int(fd), count[:])
			b.event()
			return false
		})
	}()
	return k, nil
}

// pollInterval is how often a ring is looked at whose driver cannot notify us
// (VHOST_USER_VRING_NOFD_MASK).
const pollInterval = 200 * time.Microsecond

// tickKick acts as if the driver notified us every pollInterval, until close.
func tickKick(b *bell) *kick {
	stop := make(chan struct{})
	k := &kick{func() { close(stop) }, make(chan struct{})}
	go func() {
		defer close(k.done)
		t := time.NewTicker(pollInterval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				b.event()
			case <-stop:
				return
			}
		}
	}()
	return k
}

func (k *kick) close() {
	if k != nil {
		k.stop()
		<-k.done
	}
}

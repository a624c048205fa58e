package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/sock"
)

// sock rows: frames come and go through unix stream sockets, as those of QEMU and libkrun do. Generator
// and sink are one thread with a core of its own, which writes many frames at once.

const (
	sockPrefix = 4 // bytes of length before each frame

	// On their way are fewer frames than the sockets hold, so that none are dropped. For each write the
	// kernel counts about 1 KiB more than its bytes.
	sockBytes  = 96 << 10
	sockFrames = 256
)

func sockBenches() []*bench {
	var all []*bench
	for _, size := range []int{64, 1514} {
		l := load{size: size, batch: 32, ports: 2, addresses: 1 << 10, cores: 1}
		all = append(all, &bench{
			rows: memoryRow(fmt.Sprintf("sock/%dB/batch=%d/cores=2", l.size, l.batch), "ns/frame"),
			rep:  memoryRep, shortRep: memoryShortRep,
			open: func(options) (*contest, error) { return openSock(l) },
		})
	}
	return all
}

func openSock(l load) (c *contest, err error) {
	s, err := newScene(2)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	c = &contest{close: s.close}
	as("ours", func() { c.ours, err = s.sockets(l) })
	if err != nil {
		return nil, err
	}
	var pairs [2][2]int
	for i := range pairs {
		if pairs[i], err = s.socketPair(); err != nil {
			return nil, err
		}
	}
	bare := newSockRun(l, pairs[0][1], pairs[1][1])
	var trips []float64
	hand := perFrame("bare relay", 2, func(n int) (int, time.Duration, error) {
		defer relaySock(pairs[0][0], pairs[1][0])()
		return bare.move(n)
	})
	c.limit = &contestant{hand.name, func(d time.Duration) (sample, error) {
		trips = append(trips, handOffTime())
		return hand.rep(d)
	}}
	c.note = func() string { return fmt.Sprintf("cache line there and back %.0f ns", median(trips)) }
	return c, nil
}

func (s *scene) socketPair() (fds [2]int, err error) {
	fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		s.later(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	}
	return fds, err
}

// sockets plugs two sockets into a switch, whose worker leaves core 0 to the generator.
func (s *scene) sockets(l load) (*contestant, error) {
	s.later(pinProcess(1))
	h, err := newHost(l)
	if err != nil {
		return nil, err
	}
	s.later(func() { h.Close() })
	var near [2]*sock.Socket
	var far [2]int
	for i := range near {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		far[i] = fds[1]
		s.later(func() { unix.Close(far[i]) })
		f := os.NewFile(uintptr(fds[0]), "")
		near[i], err = sock.FromConn(f, nil)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	if err := plug(h, l, func(i int) ports.Backend { return near[i] }); err != nil {
		return nil, err
	}
	for port := range 2 {
		small := l
		small.size, small.batch = 64, 1
		r := newSockRun(small, far[1-port], far[port])
		if port == 0 { // port 1 comes first
			r.stream = stream(small, small.introductions(1))
		} else {
			r.stream = stream(small, small.introductions(0))
		}
		if _, _, err := r.move(len(r.stream) / r.record); err != nil {
			return nil, err
		}
	}
	return perFrame("hvswitch", 2, newSockRun(l, far[0], far[1]).move), nil
}

// stream returns frames as they are written to a socket.
func stream(l load, pairs []macPair) (b []byte) {
	for _, p := range pairs {
		b = binary.BigEndian.AppendUint32(b, uint32(l.size))
		b = append(b, l.frame(p)...)
	}
	return b
}

// sockRun is generator and sink.
type sockRun struct {
	load     load
	src, dst int
	record   int    // bytes of a frame with its length
	stream   []byte // written over and over
	pos      int
	got      []byte
}

func newSockRun(l load, src, dst int) *sockRun {
	return &sockRun{load: l, src: src, dst: dst, record: sockPrefix + l.size,
		stream: stream(l, l.talkers()[0].pairs[:l.ring()]), got: make([]byte, 256<<10)}
}

// move implements mover.
func (r *sockRun) move(n int) (int, time.Duration, error) {
	defer pinThread(0)()
	n = r.load.share(n, 1)
	all, chunk := n*r.record, r.load.batch*r.record
	window := max(chunk, min(sockBytes, sockFrames*r.record))
	start := time.Now()
	sent, got := 0, 0
	for idle := 1; got < all; idle++ {
		if rest := chunk - sent%chunk; sent < all && sent-got+rest <= window {
			k, err := unix.Write(r.src, r.stream[r.pos:][:rest])
			if err != nil && err != unix.EAGAIN && err != unix.EINTR {
				return 0, 0, err
			}
			if k > 0 {
				idle = 0
				sent += k
				if r.pos += k; r.pos == len(r.stream) {
					r.pos = 0
				}
			}
		}
		k, err := unix.Read(r.dst, r.got)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return 0, 0, err
		}
		if k > 0 {
			idle = 0
			got += k
		}
		if idle&0xffff == 0xffff && time.Since(start) > 20*time.Second {
			return 0, 0, fmt.Errorf("%w: %d of %d bytes received", errStuck, got, sent)
		}
	}
	return n, time.Since(start), nil
}

// relaySock passes frames from one socket to another: it reads many, finds out where each begins and
// writes them all at once. It polls, on core 1, until it is stopped.
func relaySock(src, dst int) (stop func()) {
	var end atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer pinThread(1)()
		buf := make([]byte, 256<<10)
		iov := make([]unix.Iovec, 1024) // IOV_MAX of Linux
		have := 0
		for !end.Load() {
			n, _ := unix.Read(src, buf[have:])
			if n <= 0 {
				continue
			}
			have += n
			pos := 0
			for more := true; more; {
				k := 0
				from := pos
				for k < len(iov) && have-pos >= sockPrefix {
					size := sockPrefix + int(binary.BigEndian.Uint32(buf[pos:]))
					if size > have-pos {
						break
					}
					iov[k].Base = &buf[pos]
					iov[k].SetLen(size)
					k++
					pos += size
				}
				more = k == len(iov)
				if !writeAll(dst, iov[:k], buf[from:pos], &end) {
					return
				}
			}
			have = copy(buf, buf[pos:have])
		}
	}()
	return func() {
		end.Store(true)
		<-done
	}
}

// writeAll writes the vector, and what of the bytes that it names is left over by that.
func writeAll(fd int, iov []unix.Iovec, all []byte, end *atomic.Bool) bool {
	for first := true; len(all) > 0 && !end.Load(); first = false {
		n := 0
		if first {
			k, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
			if e == 0 {
				n = int(k)
			}
		} else {
			n, _ = unix.Write(fd, all)
		}
		all = all[max(0, n):]
	}
	return len(all) == 0
}

//go:build linux

// Command rtt measures round trips by TCP between the guests of vmm. Without arguments it sends back whatever comes.
// With the address of a machine where it does, and a duration, it has 64 bytes go there and come back for so long, and
// prints how long that took.
//
//	rtt 10.0.0.2 3s
//
// It is built from this file alone, so it imports nothing but the standard library. Its sockets block: between the
// clock and the card there is little but the kernel of the guest.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

const (
	port   = 5202
	size   = 64 // bytes each way
	warmUp = 100
	// patience is what an answer may take, and the other machine until it listens.
	patience = 10 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rtt:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return serve()
	}
	if len(args) != 2 {
		return errors.New("usage: rtt [ADDRESS DURATION]")
	}
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	length, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	s, err := dial(to)
	if err != nil {
		return fmt.Errorf("%v: %w", to, err)
	}
	took, err := measure(s, length)
	if err != nil {
		return fmt.Errorf("%v: %w", to, err)
	}
	slices.Sort(took)
	at := func(percent int) float64 { return float64(took[len(took)*percent/100].Nanoseconds()) / 1e3 }
	fmt.Printf("%d round trips, µs: p50 %.1f p90 %.1f p99 %.1f\n", len(took), at(50), at(90), at(99))
	return nil
}

// serve sends back what comes, by one connection after the other.
func serve() error {
	s, err := newSocket()
	if err != nil {
		return err
	}
	if err := syscall.Bind(int(s), &syscall.SockaddrInet4{Port: port}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Listen(int(s), 16); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		conn, _, err := syscall.Accept(int(s))
		switch err {
		case nil:
		case syscall.EAGAIN, syscall.EINTR, syscall.ECONNABORTED:
			continue // nobody came for a while
		default:
			return fmt.Errorf("accept: %w", err)
		}
		for b := make([]byte, size); err == nil; {
			if err = socket(conn).read(b); err == nil {
				err = socket(conn).write(b)
			}
		}
		_ = syscall.Close(conn) // which ends the round trips of the other machine, if they are not over
	}
}

// dial connects to a machine, which may not listen yet.
func dial(to netip.Addr) (s socket, err error) {
	if s, err = newSocket(); err != nil {
		return -1, err
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err = syscall.Connect(int(s), &syscall.SockaddrInet4{Port: port, Addr: to.As4()})
		if err != syscall.ECONNREFUSED || time.Since(begin) > patience {
			return s, os.NewSyscallError("connect", err)
		}
	}
}

// measure returns how long each round trip took.
func measure(s socket, length time.Duration) (took []time.Duration, err error) {
	b, trips := make([]byte, size), 0
	last := time.Now()
	for end := last.Add(length); trips <= warmUp || last.Before(end); trips++ {
		err := s.write(b)
		if err == nil {
			err = s.read(b)
		}
		if err != nil {
			return nil, fmt.Errorf("round trip %d: %w", trips+1, err)
		}
		now := time.Now()
		if trips >= warmUp {
			took = append(took, now.Sub(last))
		}
		last = now
	}
	return took, nil
}

// socket reads and writes by system calls of which the Go runtime does not learn. What it does to run something else
// meanwhile would be a quarter of a round trip on an emulated processor.
type socket int

// newSocket returns one that sends at once what is written to it. Connections that it accepts do the same.
func newSocket() (socket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	timeout := syscall.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout),
	)
	return socket(fd), os.NewSyscallError("setsockopt", err)
}

// read fills b.
func (s socket) read(b []byte) error {
	for len(b) > 0 {
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, uintptr(s), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return fmt.Errorf("nothing came for %v", patience)
		case err != 0:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return io.EOF
		}
		b = b[n:]
	}
	return nil
}

// write sends b, for which there is always room: it is all that is under way.
func (s socket) write(b []byte) error {
	_, _, err := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(s), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if err != 0 {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

//go:build linux

// Command rtt measures round trips by TCP between the guests of vmm. Without arguments it sends back whatever comes.
// With the address of a machine where it does, and a duration, it has 64 bytes go there and come back for so long, and
// prints how long that took.
//
//	rtt 10.0.0.2 3s
//
// It is built from this file alone, so it imports nothing but the standard library. Its sockets block: nothing but the
// kernel of the guest stands between the clock and the card.
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
	conn, err := dial(to)
	if err != nil {
		return fmt.Errorf("%v: %w", to, err)
	}
	defer conn.Close()
	took, err := measure(conn, length)
	if err != nil {
		return fmt.Errorf("%v: %w", to, err)
	}
	slices.Sort(took)
	at := func(percent int) float64 { return float64(took[len(took)*percent/100].Nanoseconds()) / 1e3 }
	fmt.Printf("%d round trips, µs: p50 %.1f p90 %.1f p99 %.1f\n", len(took), at(50), at(90), at(99))
	return nil
}

// socket makes one that sends at once what is written to it.
func socket() (fd int, err error) {
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// Connections that are accepted take this over.
	return fd, os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
}

// serve sends back what comes by any connection.
func serve() error {
	fd, err := socket()
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Listen(fd, 16); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		conn, _, err := syscall.Accept(fd)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go echo(os.NewFile(uintptr(conn), "connection"))
	}
}

func echo(conn *os.File) {
	defer conn.Close()
	for b := make([]byte, size); ; {
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// dial connects to a machine, which may not listen yet.
func dial(to netip.Addr) (*os.File, error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	timeout := syscall.NsecToTimeval(patience.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		return nil, fmt.Errorf("setsockopt: %w", err)
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: to.As4()})
		if err != syscall.ECONNREFUSED || time.Since(begin) > patience {
			return os.NewFile(uintptr(fd), "connection"), os.NewSyscallError("connect", err)
		}
	}
}

// measure returns how long each round trip took.
func measure(conn *os.File, length time.Duration) (took []time.Duration, err error) {
	b, trips := make([]byte, size), 0
	last := time.Now()
	for end := last.Add(length); trips <= warmUp || last.Before(end); trips++ {
		if _, err := conn.Write(b); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, b); err != nil {
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

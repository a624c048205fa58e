package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// send sends frames as fast as it can: interface, frame size, duration. It writes how many frames
// went and how many seconds it took.
func send(args []string) error {
	runtime.LockOSThread()
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	fd, err := packetSocket(args[0], 0)
	if err != nil {
		return err
	}
	a, _ := ports.ParseMAC(macA)
	b, _ := ports.ParseMAC(macB)
	f := load{size: size}.frame(pairOf(b, a))
	// IEEE Std 802 – local experimental: the far kernel drops it at once.
	f[12], f[13] = 0x88, 0xb5
	m := newMessages(64, size)
	for i := range m.vec {
		copy(unsafe.Slice(m.vec[i].Base, size), f)
	}
	sent := 0
	start := time.Now()
	for time.Since(start) < d {
		sent += max(0, m.send(fd, 0, len(m.hdr)))
	}
	fmt.Println(sent, time.Since(start).Seconds())
	return nil
}

func udpSocket() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) }

// udpEcho sends datagrams back: port.
func udpEcho(args []string) error {
	runtime.LockOSThread()
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fd, err := udpSocket()
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return err
	}
	fmt.Println("ready")
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return err
		}
		unix.Sendto(fd, b[:n], 0, from)
	}
}

// udpPing sends datagrams and waits for each to come back: address, duration. It writes what pingPong
// does.
func udpPing(args []string) error {
	fd, err := udpSocket()
	if err != nil {
		return err
	}
	return ping(fd, args)
}

// tcpEcho accepts connections and sends back what arrives on each: port.
func tcpEcho(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	l, err := tcpSocket()
	if err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(l, 16); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		} else if err != nil {
			return err
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		go func() {
			runtime.LockOSThread()
			defer unix.Close(fd)
			b := make([]byte, 2048)
			for {
				n, err := unix.Read(fd, b)
				if n <= 0 && err != unix.EINTR {
					return
				}
				unix.Write(fd, b[:max(n, 0)])
			}
		}()
	}
}

// tcpPing sends 64 bytes on a connection, which it opens before, and waits for them to come back:
// address, duration. It writes what pingPong does.
func tcpPing(args []string) error {
	fd, err := tcpSocket()
	if err != nil {
		return err
	}
	return ping(fd, args)
}

func tcpSocket() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// ping connects a socket and has pingPong use it: address, duration.
func ping(fd int, args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return err
	}
	runtime.LockOSThread()
	return pingPong(fd, d)
}

// pingPong writes the median, the 90th and the 99th percentile in µs of the time in which 64 bytes come
// back, and how often they did; only zeros if they never did.
func pingPong(fd int, d time.Duration) error {
	const warmUp = 50
	b := make([]byte, 64)
	var v []float64
	for i, begin := 0, time.Now(); time.Since(begin) < d || i < warmUp+1; i++ {
		start := time.Now()
		unix.Write(fd, b)
		n := 0
		for n < len(b) { // a stream may bring them in parts
			k, err := unix.Read(fd, b)
			if err == unix.EINTR {
				continue
			}
			if k <= 0 {
				break
			}
			n += k
		}
		if n < len(b) {
			if i == 0 {
				break // nobody there yet
			}
			continue
		}
		if i >= warmUp {
			v = append(v, float64(time.Since(start).Nanoseconds())/1000)
		}
	}
	if len(v) == 0 {
		fmt.Println(0, 0, 0, 0)
		return nil
	}
	slices.Sort(v)
	fmt.Println(v[len(v)/2], v[len(v)*9/10], v[len(v)*99/100], len(v))
	return nil
}

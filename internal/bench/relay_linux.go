package main

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The relays are the limits of the lab: one thread that takes frames from one device and gives them
// to the other, without a look at them.

const relayBurst = 32

// relayTAP makes two TAPs and passes frames on with their virtio-net header.
func relayTAP(names []string) error {
	var poll [2]unix.PollFd
	for i, n := range names {
		fd, err := rawTAP(n)
		if err != nil {
			return err
		}
		poll[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	go func() {
		runtime.LockOSThread()
		buf := make([]byte, 70000)
		p := uintptr(unsafe.Pointer(&buf[0]))
		for {
			moved := false
			for i := range poll {
				in, out := uintptr(poll[i].Fd), uintptr(poll[1-i].Fd)
				for range relayBurst {
					n, _, e := unix.RawSyscall(unix.SYS_READ, in, p, uintptr(len(buf)))
					if e != 0 {
						break
					}
					unix.RawSyscall(unix.SYS_WRITE, out, p, n)
					moved = true
				}
			}
			if !moved {
				unix.Poll(poll[:], 100)
			}
		}
	}()
	return serve()
}

// rawTAP opens a TAP that leaves checksums and segmentation to the reader.
func rawTAP(name string) (fd int, err error) {
	const vnetHeaderLen = 12
	offloads := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	usos := unix.TUN_F_USO4 | unix.TUN_F_USO6 // Linux 6.2
	if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
		return -1, err
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return -1, fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeaderLen); err != nil {
		return -1, fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads|usos) != nil {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return -1, fmt.Errorf("TUNSETOFFLOAD: %w", err)
		}
	}
	return fd, nil
}

// relayPacket passes frames between two interfaces through packet sockets, with their virtio-net
// header and many to a system call.
func relayPacket(names []string) error {
	var poll [2]unix.PollFd
	for i, n := range names {
		fd, err := packetSocket(n, unix.ETH_P_ALL)
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return fmt.Errorf("PACKET_VNET_HDR: %w", err)
		}
		poll[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	go func() {
		runtime.LockOSThread()
		const size = 70000
		m := newMessages(relayBurst, size)
		for {
			moved := false
			for i := range poll {
				n := m.recv(int(poll[i].Fd))
				if n <= 0 {
					continue
				}
				moved = true
				for k := range n {
					m.vec[k].SetLen(int(m.hdr[k].n))
				}
				for k := 0; k < n; {
					k += max(1, m.send(int(poll[1-i].Fd), k, n-k)) // what is refused is lost
				}
				for k := range n {
					m.vec[k].SetLen(size)
				}
			}
			if !moved {
				unix.Poll(poll[:], 100)
			}
		}
	}()
	return serve()
}

// packetSocket opens one that receives what others send on an interface: all of it, or nothing with
// protocol 0.
func packetSocket(name string, protocol uint16) (int, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: dev.Index}); err != nil {
		return -1, err
	}
	if protocol == 0 {
		return fd, nil
	}
	return fd, unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(dev.Index), Type: unix.PACKET_MR_PROMISC})
}

// messages is what recvmmsg and sendmmsg want.
type messages struct {
	hdr []message
	vec []unix.Iovec
}

type message struct {
	hdr unix.Msghdr
	n   uint32
	_   uint32
}

func newMessages(n, size int) *messages {
	m := &messages{make([]message, n), make([]unix.Iovec, n)}
	for i := range n {
		m.vec[i].Base = unsafe.SliceData(make([]byte, size))
		m.vec[i].SetLen(size)
		m.hdr[i].hdr.Iov = &m.vec[i]
		m.hdr[i].hdr.SetIovlen(1)
	}
	return m
}

// recv and send return how many messages went, less than 1 for none.
func (m *messages) recv(fd int) int {
	n, _, _ := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr[0])), uintptr(len(m.hdr)), unix.MSG_DONTWAIT, 0, 0)
	return int(int32(n))
}

func (m *messages) send(fd, from, n int) int {
	k, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr[from])), uintptr(n), 0, 0, 0)
	if e != 0 && e != syscall.ENOBUFS && e != syscall.EAGAIN {
		return -1
	}
	return int(int32(k))
}

package afpacket

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// refuseAll lets nothing in.
var refuseAll = []unix.SockFilter{ret(refuse)}

// receiveFilter returns the classic BPF program that keeps out what the socket must not receive; nil
// when nothing need be kept out.
func receiveFilter(c *Config) []unix.SockFilter {
	if !c.filterOutgoing && !c.NoPromiscuous {
		return nil
	}
	p := []unix.SockFilter{
		load(unix.BPF_B, packetType),
		unlessEqual(unix.PACKET_OUTGOING, 1), ret(refuse),
	}
	if !c.NoPromiscuous {
		return append(p, ret(accept))
	}
	// Others may have made the interface promiscuous, and a veth is so by nature.
	p = append(p,
		unlessEqual(unix.PACKET_HOST, 1), ret(accept),
		unlessEqual(unix.PACKET_BROADCAST, 1), ret(accept),
		unlessEqual(unix.PACKET_MULTICAST, 1), jump(1), ret(refuse),
	)
	for _, g := range c.Groups {
		p = append(p,
			load(unix.BPF_W, 0), unlessEqual(binary.BigEndian.Uint32(g[:]), 3),
			load(unix.BPF_H, 4), unlessEqual(uint32(binary.BigEndian.Uint16(g[4:])), 1), ret(accept),
		)
	}
	return append(p, ret(refuse))
}

const (
	refuse = 0
	accept = math.MaxUint32 // bytes

	packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE, linux/filter.h
)

func load(size uint16, at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: at}
}

// unlessEqual skips instructions unless what was loaded last is v.
func unlessEqual(v uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: v}
}

func jump(skip uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: skip}
}

func ret(bytes uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: bytes}
}

// attachFilter replaces the socket's filter, which there must be when p is nil.
func attachFilter(fd int, p []unix.SockFilter) error {
	if p == nil {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

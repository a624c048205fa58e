package acl

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// family is a version of IP.
type family uint8

const (
	v4 family = iota
	v6
)

// flow is what the packets of a connection have in common, seen from the VM, so that it is the same in
// both directions. It holds no pointers.
type flow struct {
	// addr is, for IPv4, the local address in the high and the remote one in the low half of its
	// first word, and the others have no meaning; for IPv6, two words each.
	addr [4]uint64

	// tail is local and remote port (16 bits each), isolation ID (24) and protocol (8). Of an ICMP
	// echo, the local port is the identifier, and the remote one is 1 when the VM is asked.
	tail uint64

	hash   uint32 // of the above and the family, by the key of the State
	family family
}

func tailOf(localPort, remotePort uint16, isolation uint32, p Protocol) uint64 {
	return uint64(localPort)<<48 | uint64(remotePort)<<32 | uint64(isolation&maxIsolation)<<8 | uint64(p)
}

func (f *flow) localPort() uint16  { return uint16(f.tail >> 48) }
func (f *flow) remotePort() uint16 { return uint16(f.tail >> 32) }
func (f *flow) isolation() uint32  { return uint32(f.tail>>8) & maxIsolation }
func (f *flow) protocol() Protocol { return Protocol(f.tail) }

// setAddrs takes source and destination as they stand in an IP header: 8 bytes or 32.
func (f *flow) setAddrs(b []byte, d Direction) {
	if len(b) == 8 {
		w := be64(b)
		if d == In {
			w = bits.RotateLeft64(w, 32)
		}
		f.addr[0], f.family = w, v4
		return
	}
	b = b[:32]
	local, remote := b[:16], b[16:]
	if d == In {
		local, remote = remote, local
	}
	f.addr = [4]uint64{be64(local), be64(local[8:]), be64(remote), be64(remote[8:])}
	f.family = v6
}

// addrs returns the local and the remote address.
func (f *flow) addrs() (local, remote netip.Addr) {
	var b [32]byte
	for i, w := range f.addr {
		binary.BigEndian.PutUint64(b[8*i:], w)
	}
	if f.family == v4 {
		return netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom4([4]byte(b[4:8]))
	}
	return netip.AddrFrom16([16]byte(b[:16])), netip.AddrFrom16([16]byte(b[16:]))
}

func (f *flow) equal(g *flow) bool {
	return f.tail == g.tail && f.addr[0] == g.addr[0] && f.family == g.family &&
		(f.family == v4 || f.addr[1] == g.addr[1] && f.addr[2] == g.addr[2] && f.addr[3] == g.addr[3])
}

// hashKey keeps guests from choosing flows that collide: NH of UMAC (RFC 4418, section 5.2), in words of
// 64 bits, whose collisions nobody can find who does not know the key.
type hashKey [8]uint64

func newHashKey() (k hashKey) {
	for i := range k {
		k[i] = rand.Uint64()
	}
	return k
}

func (k *hashKey) hash(f *flow) uint32 {
	if f.family == v4 {
		return k.hash4(f.addr[0], f.tail)
	}
	hi, lo := bits.Mul64(f.addr[0]+k[0], f.tail+k[1])
	h, l := bits.Mul64(f.addr[1]+k[2], f.addr[2]+k[3])
	lo, carry := bits.Add64(lo, l, 0)
	hi, _ = bits.Add64(hi, h, carry)
	h, l = bits.Mul64(f.addr[3]+k[4], k[5])
	lo, carry = bits.Add64(lo, l, 0)
	hi, _ = bits.Add64(hi, h, carry)
	hi, lo = bits.Mul64(hi^k[6], lo^k[7])
	return uint32((hi ^ lo) >> 32)
}

func (k *hashKey) hash4(addr, tail uint64) uint32 {
	hi, lo := bits.Mul64(addr+k[0], tail+k[1])
	hi, lo = bits.Mul64(hi^k[6], lo^k[7])
	return uint32((hi ^ lo) >> 32)
}

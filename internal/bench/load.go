package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/hvswitch/hvswitch/ports"
)

// load describes the frames of a scene; ours, the peer and the limit carry the same ones.
type load struct {
	size, batch, ports, addresses, cores int
	idle                                 bool // only the first two ports talk
	rewrite                              bool // a sender writes new addresses into each frame
}

func (l load) name() string {
	n := fmt.Sprintf("%dB/batch=%d/ports=%d", l.size, l.batch, l.ports)
	if l.idle {
		n += "/idle"
	}
	n += "/addresses=" + short(l.addresses)
	if l.rewrite && l.addresses <= 1<<10 {
		n += "/random"
	}
	return n + fmt.Sprintf("/cores=%d", l.cores)
}

func short(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dM", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

// macPair is the first 12 bytes of a frame.
type macPair [12]byte

// talker is a port that sends: the same frames over and over.
type talker struct {
	port  int
	pairs []macPair // of the frames of one round; at least ring of them
}

// addr returns the i-th address, which is behind port i mod ports.
func addr(i int) ports.MAC {
	x := uint64(i+1) * 0x9e3779b97f4a7c15 & (1<<40 - 1) // odd factor: no two are the same
	x ^= x >> 17
	x = x * 0xd6e8feb86659fd93 & (1<<40 - 1)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], x)
	m := ports.MAC(b[2:])
	m[0] = 2 // unicast, locally administered
	return m
}

func pairOf(dst, src ports.MAC) (p macPair) {
	copy(p[:6], dst[:])
	copy(p[6:], src[:])
	return p
}

// ring returns how many frames a guest's ring holds: so many that the cache is as busy as with a
// real one, so few that 10,000 of them fit in memory.
func (l load) ring() int {
	switch {
	case l.segmented() && l.batch == 1:
		return 4 // with those of the receiver they fit the second-level cache
	case l.segmented():
		return 64
	case l.ports > 100:
		return 32
	case l.ports > 2:
		return max(64, l.batch)
	}
	return 512
}

const cacheLine = 64

// stride returns the distance of frames in a ring. It is no power of two, which would map all
// heads to few sets of the cache.
func (l load) stride() int {
	n := (ports.Headroom + l.size + cacheLine - 1) &^ (cacheLine - 1)
	if n/cacheLine%2 == 0 {
		n += cacheLine
	}
	return n
}

func (l load) talkers() []talker {
	n := l.ports
	if l.cores == 1 && l.ports == 2 {
		n = 1 // as the peer is measured
	} else if l.idle {
		n = 2
	}
	to := l.ports
	if l.idle {
		to = 2
	}
	each := l.addresses / l.ports
	r := rand.New(rand.NewPCG(1, 2))
	round := l.ring()
	if l.rewrite {
		round = 1 << 20
	}
	out := make([]talker, n)
	for i := range out {
		t := talker{port: i, pairs: make([]macPair, round)}
		for k := range t.pairs {
			d := r.IntN(to - 1)
			if d >= i {
				d++
			}
			t.pairs[k] = pairOf(addr(r.IntN(each)*l.ports+d), addr(r.IntN(each)*l.ports+i))
		}
		out[i] = t
	}
	return out
}

// introductions returns frames from all addresses of a port, for the switch to learn, to one that
// it knows already: the first one of port 1, or for port 1 itself of port 0. So port 1 comes first.
func (l load) introductions(port int) []macPair {
	to := addr(1)
	if port == 1 {
		to = addr(0)
	}
	var out []macPair
	for i := port; i < l.addresses; i += l.ports {
		out = append(out, pairOf(to, addr(i)))
	}
	return out
}

const ethLen, ipLen, udpLen, tcpLen = 14, 20, 8, 20

// frame returns a valid frame of the size: UDP, or TCP for one that is to be segmented.
func (l load) frame(p macPair) []byte {
	f := make([]byte, l.size)
	copy(f, p[:])
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[ethLen:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8] = 64
	copy(ip[12:], []byte{10, p[9], p[10], p[11], 10, p[3], p[4], p[5]})
	l4 := ip[ipLen:]
	binary.BigEndian.PutUint16(l4[0:], 1024)
	binary.BigEndian.PutUint16(l4[2:], 5001)
	if l.segmented() {
		ip[9] = 6
		l4[12] = tcpLen / 4 << 4
		l4[13] = 0x10 // ACK
	} else {
		ip[9] = 17
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	var sum uint32
	for i := 0; i < ipLen; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return f
}

func (l load) segmented() bool { return l.size > 9000 }

// offload is the request of a segmented frame.
func (l load) offload() ports.Offload {
	if !l.segmented() {
		return ports.Offload{}
	}
	return ports.Offload{
		NeedsChecksum:  true,
		Segment:        ports.SegmentTCP4,
		SegmentSize:    1448,
		HeaderLen:      ethLen + ipLen + tcpLen,
		ChecksumStart:  ethLen + ipLen,
		ChecksumOffset: 16, // RFC 9293, 3.1
	}
}

// share divides n frames among talkers, in whole batches.
func (l load) share(n, talkers int) int {
	k := max(1, n/talkers)
	return (k + l.batch - 1) / l.batch * l.batch
}

// burst is the batch of rows that have no other.
const burst = 32

// flowFrames are frames of different flows and sources to different stations.
func flowFrames() (list []*ports.Frame) {
	for i := range burst {
		b := load{size: 64}.frame(pairOf(addr(1000+i%8), addr(i)))
		b[ethLen+ipLen], b[ethLen+ipLen+1] = byte(4+i), byte(211*i) // source port
		f := new(ports.Frame)
		f.SetHead(append(make([]byte, ports.Headroom), b...), ports.Headroom, len(b))
		list = append(list, f)
	}
	return list
}

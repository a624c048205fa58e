package portstest

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

// request is a frame that leaves something to be done.
type request struct {
	name string
	kind ports.Segment
	ecn  bool
	ipv6 bool
	tag  ports.Tag
}

var requests = []request{
	{name: "checksum of UDP over IPv4"},
	{name: "checksum of UDP over IPv4 behind a tag", tag: ports.Tag{TPID: ports.TPID8021Q, TCI: 7}},
	{name: "checksum of UDP over IPv6", ipv6: true},
	{name: "TCP over IPv4", kind: ports.SegmentTCP4},
	{name: "TCP over IPv4 behind a tag", kind: ports.SegmentTCP4, tag: ports.Tag{TPID: ports.TPID8021Q, TCI: 7}},
	{name: "TCP over IPv4 with ECN", kind: ports.SegmentTCP4, ecn: true},
	{name: "TCP over IPv6", kind: ports.SegmentTCP6, ipv6: true},
	{name: "TCP over IPv6 with ECN", kind: ports.SegmentTCP6, ipv6: true, ecn: true},
	{name: "UDP over IPv4", kind: ports.SegmentUDP},
	{name: "UDP over IPv6", kind: ports.SegmentUDP, ipv6: true},
}

// sizes returns the payload of the frame and of each of its segments.
func (q request) sizes(mtu int) (payload, segment int) {
	segment = min(1000, mtu-60)
	switch {
	case q.kind == ports.SegmentNone:
		return min(32, segment), segment
	case q.kind == ports.SegmentUDP:
		return 3*segment - 1, segment
	default:
		return min(40*segment, 60000), segment
	}
}

// packet returns the frame on the wire: its headers are right, its transport checksum is the sum of
// the pseudo header.
func (q request) packet(mtu int) Packet {
	b := spec{}.wire()[:12]
	if q.tag.Present() {
		b = binary.BigEndian.AppendUint16(b, q.tag.TPID)
		b = binary.BigEndian.AppendUint16(b, q.tag.TCI)
	}
	payload, segment := q.sizes(mtu)
	proto, headerLen, checksumOffset := byte(17), 8, 6
	if q.kind == ports.SegmentTCP4 || q.kind == ports.SegmentTCP6 {
		proto, headerLen, checksumOffset = 6, 20, 16
	}
	n := headerLen + payload

	var addresses []byte
	if q.ipv6 {
		b = binary.BigEndian.AppendUint16(b, 0x86dd)
		b = append(b, 0x60, 0, 0, 0, byte(n>>8), byte(n), proto, 64)
		// Addresses for documentation, RFC 3849.
		b = append(b, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
		b = append(b, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
		addresses = b[len(b)-32:]
	} else {
		b = binary.BigEndian.AppendUint16(b, etherTypeIPv4)
		b = appendIPv4(b, proto, 20+n)
		addresses = b[len(b)-8:]
	}
	pseudo := fold(sum(addresses) + uint32(proto) + uint32(n))

	start := len(b)
	b = binary.BigEndian.AppendUint16(b, 1024)
	b = binary.BigEndian.AppendUint16(b, 1025)
	if proto == 17 {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = binary.BigEndian.AppendUint16(b, pseudo)
	} else {
		flags := byte(0x10) // ACK
		if q.ecn {
			flags |= 0x80 // CWR
		}
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0xff, 0xff)
		b = binary.BigEndian.AppendUint16(b, pseudo)
		b = append(b, 0, 0)
	}
	p := Packet{Offload: ports.Offload{
		NeedsChecksum:  true,
		ChecksumStart:  uint16(start),
		ChecksumOffset: uint16(checksumOffset),
	}}
	if q.kind != ports.SegmentNone {
		p.Offload.Segment = q.kind
		p.Offload.ECN = q.ecn
		p.Offload.SegmentSize = uint16(segment)
		p.Offload.HeaderLen = uint16(len(b))
	}
	for i := range payload {
		b = append(b, byte(i>>8), byte(i))[:len(b)+1]
		b[len(b)-1] ^= byte(i >> 4)
	}
	p.Bytes = b
	return p
}

func (q request) frame(mtu int, cuts ...int) *ports.Frame {
	p := q.packet(mtu)
	f := layout{cuts: cuts}.frame(p.Bytes)
	f.Offload = p.Offload
	if f.VLAN.Present() { // offsets of a frame do not count a tag beside it
		f.Offload.ChecksumStart -= tagLen
		if f.Offload.HeaderLen != 0 {
			f.Offload.HeaderLen -= tagLen
		}
	}
	return f
}

// agree compares the requests; HeaderLen and ChecksumValid are hints.
func agree(a, b ports.Offload) bool {
	a.HeaderLen, b.HeaderLen = 0, 0
	a.ChecksumValid, b.ChecksumValid = false, false
	return a == b
}

func (q request) check(t *testing.T, got Packet, mtu int) {
	t.Helper()
	want := q.packet(mtu)
	switch {
	case !same(got.Bytes, want.Bytes):
		t.Errorf("%s: got %d bytes %x…, want %d bytes %x…", q.name,
			len(got.Bytes), got.Bytes[:min(80, len(got.Bytes))], len(want.Bytes), want.Bytes[:min(80, len(want.Bytes))])
	case !agree(got.Offload, want.Offload):
		t.Errorf("%s: got request %+v, want %+v", q.name, got.Offload, want.Offload)
	}
}

// sendOffload sends what Info says that Send accepts.
func sendOffload(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	if i.Offloads == 0 {
		moot("the backend accepts no offload requests")
	}
	for _, q := range requests {
		for _, cuts := range [][]int{nil, {}, {1, 2000, 3}} {
			f := q.frame(i.MTU, cuts...)
			needs := f.Offload.Needs()
			if needs&^i.Offloads != 0 || q.tag.Present() && !r.has(Tags) {
				continue
			}
			r.send(t, 0, f)
			if needs&^r.Takes == 0 {
				q.check(t, r.take(t), i.MTU)
			}
		}
	}
	r.empty()
	if missing := i.Offloads &^ r.Takes; missing != 0 {
		t.Logf("requests %#x are accepted, but the peer cannot see them as they are", missing)
	}
}

// sendRefusesOffload sends what Info says that Send does not accept.
func sendRefusesOffload(t *testing.T, r *Rig) {
	r.needDepth(t, 3)
	i := r.Backend.Info()
	if i.Offloads == ports.OffloadAll {
		moot("the backend accepts every offload request")
	}
	for _, q := range requests {
		f := q.frame(i.MTU)
		if f.Offload.Needs()&^i.Offloads == 0 {
			continue
		}
		if n, err := r.Backend.Tx(0).Send([]*ports.Frame{f}); n != 0 || !errors.Is(err, ports.ErrOffload) {
			t.Errorf("%s: Send took %d, error %v; want 0, %v", q.name, n, err, ports.ErrOffload)
			continue
		}
		r.sendAmongOthers(t, q.name, f, nil, true, ports.ErrOffload)
	}
}

func recvOffload(t *testing.T, r *Rig) {
	if r.Puts == 0 {
		moot("the peer cannot put frames with offload requests on the cable")
	}
	mtu := r.Backend.Info().MTU
	in := r.all()
	for _, q := range requests {
		p := q.packet(mtu)
		if p.Offload.Needs()&^r.Puts != 0 || q.tag.Present() && !r.has(Tags) {
			continue
		}
		r.putPacket(t, p)
		q.check(t, in.collect(t, 1)[0], mtu)
	}
	// The request of one frame does not cling to the next.
	s := spec{seq: 1}
	r.put(t, s)
	p := in.collect(t, 1)[0]
	if err := differ(p.Bytes, s.wire()); err != nil || !p.Offload.IsZero() {
		t.Errorf("frame without request after others: %v, request %+v", err, p.Offload)
	}
}

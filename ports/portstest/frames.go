package portstest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

const (
	etherLen = 14
	tagLen   = 4
	minWire  = 60 // shortest frame of IEEE 802.3 without FCS; a device may pad up to it

	etherTypeTest = 0x88b5 // local experimental EtherType 1, IEEE 802 clause 9.2.4
	etherTypeIPv4 = 0x0800
)

// spec names a frame of the suite; all its bytes follow from it.
type spec struct {
	seq  int         // its number
	flow int         // a number in the source address, and in the UDP ports
	len  int         // of payload behind the tags, 8 at least; 46, the shortest, when 0
	tags []ports.Tag // outermost first
	udp  bool        // looks like UDP, so that devices which hash flows can tell them apart
}

func (s spec) String() string {
	return fmt.Sprintf("frame %d of flow %d, %d tags, %d bytes of payload", s.seq, s.flow, len(s.tags), s.payload())
}

func (s spec) payload() int {
	if s.len == 0 {
		return minWire - etherLen
	}
	return s.len
}

// wire returns the frame as it looks on the wire.
func (s spec) wire() []byte {
	b := make([]byte, 0, etherLen+len(s.tags)*tagLen+s.payload())
	b = append(b, 0x02, 0x88, 0xb5, 0xff, 0xff, 0xfe)
	b = append(b, 0x02, 0x88, 0xb5, byte(s.flow>>16), byte(s.flow>>8), byte(s.flow))
	for _, t := range s.tags {
		b = binary.BigEndian.AppendUint16(b, t.TPID)
		b = binary.BigEndian.AppendUint16(b, t.TCI)
	}
	n := s.payload()
	if s.udp {
		b = binary.BigEndian.AppendUint16(b, etherTypeIPv4)
		b = appendIPv4(b, 17, n)
		b = binary.BigEndian.AppendUint16(b, uint16(1024+s.flow))
		b = binary.BigEndian.AppendUint16(b, uint16(1024+s.flow))
		b = binary.BigEndian.AppendUint16(b, uint16(n-20))
		b = binary.BigEndian.AppendUint16(b, 0) // no checksum
		n -= 28
	} else {
		b = binary.BigEndian.AppendUint16(b, etherTypeTest)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(s.seq))
	for n -= 8; n > 0; n -= rampLen {
		b = append(b, ramp[s.seq*31%256:][:min(n, rampLen)]...)
	}
	return b
}

// ramp is the pattern of payloads: its bytes count up, and it goes on seamlessly after rampLen bytes.
var ramp = func() (b [rampLen + 256]byte) {
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

const rampLen = 4096

// appendIPv4 appends an IPv4 header of a packet of n bytes. Its addresses are of the range for
// benchmarks, RFC 2544 section C.2.2.
func appendIPv4(b []byte, proto byte, n int) []byte {
	h := len(b)
	b = append(b, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0x40, 0, 64, proto, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2)
	binary.BigEndian.PutUint16(b[h+10:], ^fold(sum(b[h:])))
	return b
}

// sum adds up the 16-bit words of b; RFC 1071.
func sum(b []byte) (s uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// ours reports whether the suite made the frame.
func ours(wire []byte) bool {
	return len(wire) >= 12 && wire[6] == 0x02 && wire[7] == 0x88 && wire[8] == 0xb5
}

// read returns the number and the flow of a frame of the suite.
func read(wire []byte) (s spec, ok bool) {
	if !ours(wire) {
		return s, false
	}
	s.flow = int(wire[9])<<16 | int(wire[10])<<8 | int(wire[11])
	rest := wire[12:]
	for len(rest) >= 6 {
		t := ports.Tag{TPID: binary.BigEndian.Uint16(rest), TCI: binary.BigEndian.Uint16(rest[2:])}
		if t.TPID != ports.TPID8021Q && t.TPID != ports.TPID8021AD {
			break
		}
		s.tags = append(s.tags, t)
		rest = rest[4:]
	}
	if len(rest) < 2 {
		return s, false
	}
	etherType := binary.BigEndian.Uint16(rest)
	s.udp = etherType == etherTypeIPv4
	if !s.udp && etherType != etherTypeTest {
		return s, false
	}
	rest = rest[2:]
	s.len = len(rest)
	if s.udp {
		if len(rest) < 28 {
			return s, false
		}
		rest = rest[28:]
	}
	if len(rest) < 8 {
		return s, false
	}
	s.seq = int(binary.BigEndian.Uint64(rest))
	return s, true
}

// same reports whether got is the frame want, perhaps padded to the shortest length of Ethernet.
func same(got, want []byte) bool {
	if len(got) == len(want) {
		return bytes.Equal(got, want)
	}
	if len(got) < len(want) || len(got) > minWire+tagLen || len(want) >= minWire {
		return false
	}
	return bytes.Equal(got[:len(want)], want) && len(bytes.Trim(got[len(want):], "\x00")) == 0
}

// differ says in what got is not want.
func differ(got, want []byte) error {
	if same(got, want) {
		return nil
	}
	w, _ := read(want)
	g, ok := read(got)
	if ok && (g.seq != w.seq || g.flow != w.flow) {
		return fmt.Errorf("got %v, want %v", g, w)
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%v differs from byte %d on: got %d bytes %x, want %d bytes %x",
		w, at, len(got), clip(got[at:]), len(want), clip(want[at:]))
}

func clip(b []byte) []byte { return b[:min(len(b), 24)] }

// layout is how a frame lies in memory.
type layout struct {
	inside bool  // the outermost tag is among the bytes, not beside them
	cuts   []int // lengths of the segments behind a head of ports.HeadLen bytes; the last gets the rest
}

// frame makes a frame of its looks on the wire.
func (l layout) frame(wire []byte) *ports.Frame {
	f := new(ports.Frame)
	b := append(make([]byte, ports.Headroom, ports.Headroom+len(wire)), wire...)
	f.SetHead(b, ports.Headroom, len(wire))
	if !l.inside {
		f.PopTag()
	}
	if l.cuts == nil || f.Len() <= ports.HeadLen {
		return f
	}
	tag, flat := f.VLAN, f.Head()
	head := append(make([]byte, ports.Headroom, ports.Headroom+ports.HeadLen), flat[:ports.HeadLen]...)
	f.SetHead(head, ports.Headroom, ports.HeadLen)
	f.VLAN = tag
	rest := flat[ports.HeadLen:]
	for _, n := range l.cuts {
		n = min(n, len(rest))
		f.AppendBody(bytes.Clone(rest[:n]))
		rest = rest[n:]
	}
	f.AppendBody(bytes.Clone(rest))
	return f
}

// frames makes a frame with everything in its head of each spec.
func frames(specs []spec) []*ports.Frame {
	fs := make([]*ports.Frame, len(specs))
	for i, s := range specs {
		fs[i] = layout{}.frame(s.wire())
	}
	return fs
}

// series names n frames of flow, numbered from first, all of the same payload length.
func series(flow, first, n, payload int) []spec {
	s := make([]spec, n)
	for i := range s {
		s[i] = spec{seq: first + i, flow: flow, len: payload}
	}
	return s
}

package coalesce

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	// maxSegments bounds the pieces of a frame: 64 KiB of full-size segments on an MTU of 1,500.
	maxSegments = 45

	// maxFlows is how many flows are put together at once. When one more begins, the oldest ends.
	maxFlows = 8
)

// Fields of headers, as offsets from the start of the header.
const (
	ip4Total    = 2 // RFC 791, section 3.1
	ip4ID       = 4
	ip4Checksum = 10
	ip4Len      = 20
	ip6Payload  = 4 // RFC 8200, section 3
	ip6Next     = 6
	ip6Len      = 40
	tcpSeq      = 4 // RFC 9293, section 3.1
	tcpAck      = 8
	tcpFlags    = 13
	tcpWindow   = 14
	tcpChecksum = 16
	tcpUrgent   = 18
)

// TCP flags.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagPSH = 0x08
	flagACK = 0x10
	flagURG = 0x20
	flagCWR = 0x80
)

// A Coalescer joins the segments of one receive queue. The zero value is ready. It is used by one
// goroutine at a time and allocates nothing but what frames need for their bodies.
type Coalescer struct {
	open   [maxFlows]flow
	oldest int // of open
}

// flow is a frame that takes in the segments that follow it.
type flow struct {
	frame *ports.Frame // nil when there is none
	h     header.Header
	size  int    // payload of each segment but the last
	count int    // segments
	next  uint32 // sequence number
	flags uint8
	sum   sum // of the first segment; unknown until a second one comes
}

// sum is the state of the checksums of a segment.
type sum uint8

const (
	unknown sum = iota
	wrong       // or not what a cut would write
	whole       // all of TCP is covered
	partial     // TCP asks for completion
)

// Join appends the payload of f to a frame that was offered since Finish, and reports whether it did;
// then f is not to be passed on. Its payload must stay where it is for as long as that frame is used, f
// itself is free. Tag and offload request of f must be set. f is a guest's: nothing about it is
// believed.
//
// If it did not, f may take in others itself: until Finish the caller must not touch it.
func (c *Coalescer) Join(f *ports.Frame) bool {
	var h header.Header
	head := f.Head()
	t, known := c.find(f, head, &h)
	n := 0
	if known {
		n = payload(f, head, &h)
	}
	if t != nil {
		if n > 0 && t.takes(f, head, &h, n) {
			t.append(head, n)
			return true
		}
		t.finish()
	}
	// A head shorter than HeadLen must be the whole frame, so it takes nothing in.
	if n > 0 && len(head) >= ports.HeadLen && head[int(h.L4)+tcpFlags]&(flagPSH|flagFIN) == 0 {
		c.begin(f, head, &h, n)
	}
	return false
}

// Pass notes that f, which is passed on as it is, follows what was offered before.
func (c *Coalescer) Pass(f *ports.Frame) {
	var h header.Header
	if t, _ := c.find(f, f.Head(), &h); t != nil {
		t.finish()
	}
}

// Finish completes the headers of all frames that took others in. They take in no more.
func (c *Coalescer) Finish() {
	for i := range c.open {
		c.open[i].finish()
	}
	c.oldest = 0
}

// find parses f and returns the open flow that it belongs to, if any. known is unset when it has none of
// its own. When nobody can tell whose it is, all flows end.
func (c *Coalescer) find(f *ports.Frame, head []byte, h *header.Header) (t *flow, known bool) {
	h.Parse(head, f.Len())
	if h.Reason != header.OK || h.Flags.Has(header.Fragment) {
		c.Finish()
		return nil, false
	}
	if h.Flags&(header.IPv4|header.IPv6) == 0 || h.Proto != header.TCP || !h.Flags.Has(header.Ports) {
		return nil, false
	}
	addrs := h.AddrBytes(head)
	for i := range c.open {
		t := &c.open[i]
		if t.frame != nil && t.h.SrcPort == h.SrcPort && t.h.DstPort == h.DstPort && bytes.Equal(t.h.AddrBytes(t.frame.Head()), addrs) {
			return t, true
		}
	}
	return nil, true
}

// payload returns the length of the payload of a segment that can be joined with others, else 0.
func payload(f *ports.Frame, head []byte, h *header.Header) int {
	o := &f.Offload
	if h.Flags&^(header.IPv4|header.IPv6|header.Ports|header.Tagged) != 0 || o.Segment != ports.SegmentNone || o.ECN || len(head) != f.Len() {
		return 0
	}
	if head[int(h.L4)+tcpFlags]&(flagSYN|flagRST|flagURG|flagACK) != flagACK {
		return 0
	}
	ip := head[h.L3:h.L4]
	end := int(h.L3)
	switch {
	case h.Flags.Has(header.IPv4) && len(ip) == ip4Len:
		end += int(binary.BigEndian.Uint16(ip[ip4Total:]))
	case h.Flags.Has(header.IPv6) && len(ip) == ip6Len:
		end += ip6Len + int(binary.BigEndian.Uint16(ip[ip6Payload:]))
	default:
		return 0
	}
	if end != len(head) {
		return 0
	}
	return end - int(h.Payload)
}

// begin makes f the frame of a flow.
func (c *Coalescer) begin(f *ports.Frame, head []byte, h *header.Header, n int) {
	t := &c.open[c.oldest]
	for i := range c.open {
		if c.open[i].frame == nil {
			t = &c.open[i]
			break
		}
	}
	if t.frame != nil {
		t.finish()
		c.oldest = (c.oldest + 1) % maxFlows
	}
	tcp := head[h.L4:]
	*t = flow{frame: f, h: *h, size: n, count: 1, next: binary.BigEndian.Uint32(tcp[tcpSeq:]) + uint32(n), flags: tcp[tcpFlags]}
}

// takes reports whether a segment with n bytes of payload, of the same addresses and ports, can follow.
func (t *flow) takes(f *ports.Frame, head []byte, h *header.Header, n int) bool {
	length := t.frame.Len() + n
	if n > t.size || t.count == maxSegments || length > ports.MaxFrame || length-int(h.L3) > math.MaxUint16 {
		return false
	}
	first := t.frame.Head()
	if h.L3 != t.h.L3 || h.L4 != t.h.L4 || h.Payload != t.h.Payload || h.Flags != t.h.Flags ||
		f.VLAN != t.frame.VLAN || !bytes.Equal(first[:h.L3], head[:h.L3]) {
		return false
	}
	a, b := first[h.L3:h.L4], head[h.L3:h.L4]
	if h.Flags.Has(header.IPv4) {
		if [2]byte(a) != [2]byte(b) || // version, length, TOS
			binary.BigEndian.Uint16(b[ip4ID:]) != binary.BigEndian.Uint16(a[ip4ID:])+uint16(t.count) ||
			[4]byte(a[ip4ID+2:]) != [4]byte(b[ip4ID+2:]) { // flags, offset, TTL, protocol
			return false
		}
	} else if [4]byte(a) != [4]byte(b) || [2]byte(a[ip6Next:]) != [2]byte(b[ip6Next:]) { // version, class, label; hop limit
		return false
	}
	a, b = first[h.L4:h.Payload], head[h.L4:h.Payload]
	flags := b[tcpFlags]
	if binary.BigEndian.Uint32(b[tcpSeq:]) != t.next ||
		[5]byte(a[tcpAck:]) != [5]byte(b[tcpAck:]) || // and the length of the header
		(t.flags^flags)&^(flagCWR|flagPSH|flagFIN) != 0 || flags&flagCWR != 0 ||
		[2]byte(a[tcpWindow:]) != [2]byte(b[tcpWindow:]) ||
		!bytes.Equal(a[tcpUrgent:], b[tcpUrgent:]) { // and options
		return false
	}
	// Last, because it may read all of the payload.
	if t.sum == unknown {
		t.sum = sumOf(t.frame, first, &t.h)
	}
	return t.sum != wrong && sumOf(f, head, h) == t.sum
}

// sumOf checks the checksums of a segment.
func sumOf(f *ports.Frame, head []byte, h *header.Header) sum {
	if h.Flags.Has(header.IPv4) {
		ip := head[h.L3:h.L4]
		// Both forms of zero are correct, but only one is written (RFC 1624, section 3).
		if checksum.Of(ip) != 0 || binary.BigEndian.Uint16(ip[ip4Checksum:]) == 0xffff {
			return wrong
		}
	}
	tcp := head[h.L4:]
	field := binary.BigEndian.Uint16(tcp[tcpChecksum:])
	var s checksum.Sum
	s.AddPseudo(h.AddrBytes(head), h.Proto, uint32(len(tcp)))
	switch o := &f.Offload; {
	case o.NeedsChecksum:
		if o.ChecksumStart != h.L4 || o.ChecksumOffset != tcpChecksum || field != s.Fold() {
			return wrong
		}
		return partial
	case field == 0: // a cut writes the other form
		return wrong
	case o.ChecksumValid:
		return whole
	}
	if s.Add(tcp); s.Checksum() != 0 {
		return wrong
	}
	return whole
}

// append takes the payload of a segment in.
func (t *flow) append(head []byte, n int) {
	t.frame.AppendBody(head[t.h.Payload:])
	t.next += uint32(n)
	t.count++
	flags := head[int(t.h.L4)+tcpFlags]
	t.flags |= flags
	if n < t.size || flags&(flagPSH|flagFIN) != 0 {
		t.finish()
	}
}

// finish ends the flow, if there is one, and writes what the frame has become.
func (t *flow) finish() {
	f := t.frame
	if t.frame = nil; f == nil || t.count == 1 {
		return
	}
	head, l3, l4 := f.Head(), int(t.h.L3), int(t.h.L4)
	if t.h.Flags.Has(header.IPv4) {
		ip := head[l3:l4]
		binary.BigEndian.PutUint16(ip[ip4Total:], uint16(f.Len()-l3))
		clear(ip[ip4Checksum : ip4Checksum+2])
		binary.BigEndian.PutUint16(ip[ip4Checksum:], checksum.Of(ip))
	} else {
		binary.BigEndian.PutUint16(head[l3+ip6Payload:], uint16(f.Len()-l3-ip6Len))
	}
	head[l4+tcpFlags] = t.flags
	var s checksum.Sum
	s.AddPseudo(t.h.AddrBytes(head), t.h.Proto, uint32(f.Len()-l4))
	binary.BigEndian.PutUint16(head[l4+tcpChecksum:], s.Fold())
	f.Offload = ports.Offload{
		NeedsChecksum:  true,
		Segment:        ports.SegmentTCP4,
		ECN:            t.flags&flagCWR != 0,
		SegmentSize:    uint16(t.size),
		HeaderLen:      t.h.Payload,
		ChecksumStart:  t.h.L4,
		ChecksumOffset: tcpChecksum,
	}
	if t.h.Flags.Has(header.IPv6) {
		f.Offload.Segment = ports.SegmentTCP6
	}
}

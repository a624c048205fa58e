package segment

import (
	"fmt"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// MaxSegments is the largest number of segments that one frame may ask for. It bounds the work and the
// memory that a guest can cause with a single frame; a frame of 64 KiB cannot have segments shorter than
// 64 bytes. Real senders stay far below: TCP segments carry more than 500 bytes and Linux cuts no more
// than 128 UDP datagrams (UDP_MAX_SEGMENTS).
const MaxSegments = 1024

// Errors of Check and Segmenter. They wrap ports.ErrOffload.
var (
	// ErrHeaders says that the headers are not those of the kind of segmentation that is asked
	// for, or that they are malformed.
	ErrHeaders = refused("segmentation does not fit the headers")

	// ErrSize says that the segments would be empty or more than MaxSegments.
	ErrSize = refused("segment size is impossible")

	// ErrChecksum says that the checksum is not where one can be, or that segmentation is asked
	// for without one.
	ErrChecksum = refused("checksum does not fit the headers")
)

func refused(why string) error { return fmt.Errorf("%w: %s", ports.ErrOffload, why) }

// Places of the checksum in the transport header.
const (
	tcpChecksum  = 16 // RFC 9293, section 3.1
	udpChecksum  = 6  // RFC 768
	icmpChecksum = 2  // RFC 792 and RFC 4443, section 2.1
)

// Check reports whether the request of f can be honoured. After it nobody reads or writes out of bounds
// by honouring it, and nothing is written over what has been looked at to let the frame pass: the field
// lies either where the transport protocol has its checksum, or behind the transport header (the sender
// has a tunnel).
//
// In the second case two bytes of the payload are still to change. Who decides by the payload, such as
// a DHCP guard, calls Finish before.
func Check(f *ports.Frame) error {
	var h header.Header
	h.Parse(f.Head(), f.Len())
	return CheckParsed(f, &h)
}

// CheckParsed is Check for a frame whose headers have been parsed.
func CheckParsed(f *ports.Frame, h *header.Header) error {
	o := &f.Offload
	if o.Segment != ports.SegmentNone {
		return checkSegment(f, h)
	}
	if o.ECN {
		return ErrHeaders
	}
	if o.NeedsChecksum {
		return checkSum(f, h)
	}
	return nil
}

func checkSegment(f *ports.Frame, h *header.Header) error {
	o := &f.Offload
	// A frame with an 802.3 length in front of SNAP would need that length mended too.
	if h.Payload == 0 || h.Flags&(header.Fragment|header.SNAP) != 0 {
		return ErrHeaders
	}
	place := tcpChecksum
	switch {
	case o.Segment == ports.SegmentTCP4 && h.Flags&header.IPv4 != 0 && h.Proto == header.TCP:
	case o.Segment == ports.SegmentTCP6 && h.Flags&header.IPv6 != 0 && h.Proto == header.TCP:
	case o.Segment == ports.SegmentUDP && h.Proto == header.UDP && !o.ECN:
		place = udpChecksum
	default:
		return ErrHeaders
	}
	if !o.NeedsChecksum || o.ChecksumStart != h.L4 || int(o.ChecksumOffset) != place {
		return ErrChecksum
	}
	if f.Len()-int(h.Payload) > int(o.SegmentSize)*MaxSegments || o.SegmentSize == 0 {
		return ErrSize
	}
	return nil
}

func checkSum(f *ports.Frame, h *header.Header) error {
	o := &f.Offload
	start, offset := int(o.ChecksumStart), int(o.ChecksumOffset)
	if start+offset+2 > min(len(f.Head()), ports.HeadLen) || !checksumIn(h, start, offset) {
		return ErrChecksum
	}
	return nil
}

// checksumIn reports whether a checksum over what follows start, with its field at offset behind it, can
// belong to a frame with these headers.
func checksumIn(h *header.Header, start, offset int) bool {
	l4 := int(h.L4)
	switch {
	case h.Reason != header.OK || h.Flags&(header.ARP|header.Fragment) != 0:
		return false
	case h.Flags&(header.IPv4|header.IPv6) == 0:
		return start >= int(h.L3)
	case l4 == 0:
		return false
	}
	switch h.Proto {
	case header.TCP:
		return start == l4 && offset == tcpChecksum || start >= int(h.Payload)
	case header.UDP:
		return start == l4 && offset == udpChecksum || start >= int(h.Payload)
	case header.ICMP, header.ICMPv6:
		return start == l4 && offset == icmpChecksum
	case header.SCTP:
		return false // has a CRC
	}
	return start >= l4
}

package ports

// Offload is what the sender of a frame left to be done by whoever brings it to a wire. The zero
// value asks for nothing. It is the request of the virtio-net header (OASIS virtio 1.2, 5.1.6),
// whose words are used here.
//
// The request comes from a guest. Whoever acts on it checks it first against the bytes of the frame.
type Offload struct {
	// NeedsChecksum asks to complete the checksum of the bytes from ChecksumStart to the end
	// and to store it at ChecksumStart+ChecksumOffset. The field there holds the sum of the
	// pseudo header.
	NeedsChecksum bool

	// ChecksumValid says that the transport checksum has been checked already.
	ChecksumValid bool

	// Segment asks to cut the payload into segments, each with a copy of the headers.
	Segment Segment

	// ECN says that the TCP segments carry explicit congestion notification (CWR), which only
	// the first segment may keep.
	ECN bool

	SegmentSize    uint16 // payload bytes of each segment but the last
	HeaderLen      uint16 // bytes of all headers; a hint, not to be trusted
	ChecksumStart  uint16 // from the first byte of the frame
	ChecksumOffset uint16 // from ChecksumStart
}

// shift moves the offsets by n bytes. A hint that the sender did not give stays absent.
func (o *Offload) shift(n int) {
	if o.NeedsChecksum {
		o.ChecksumStart = uint16(int(o.ChecksumStart) + n)
	}
	if o.HeaderLen != 0 {
		o.HeaderLen = uint16(max(0, int(o.HeaderLen)+n))
	}
}

// IsZero reports whether there is nothing to do for the frame.
func (o *Offload) IsZero() bool { return !o.NeedsChecksum && o.Segment == SegmentNone && !o.ECN }

// Needs returns the capabilities that a destination must have to take the request as it is.
func (o *Offload) Needs() Offloads {
	var n Offloads
	if o.NeedsChecksum {
		n = OffloadChecksum
	}
	switch o.Segment {
	case SegmentNone:
	case SegmentTCP4:
		n |= OffloadTCP4
	case SegmentTCP6:
		n |= OffloadTCP6
	case SegmentUDP:
		n |= OffloadUDP
	default:
		n |= offloadUnknown
	}
	if o.ECN {
		n |= OffloadECN
	}
	return n
}

// Segment names the kind of segmentation a frame asks for.
type Segment uint8

// Kinds of segmentation.
const (
	SegmentNone Segment = iota
	SegmentTCP4         // TCP over IPv4
	SegmentTCP6         // TCP over IPv6
	SegmentUDP          // UDP over IPv4 or IPv6, each segment a datagram of its own
)

// Offloads is a set of offload requests that a destination accepts.
type Offloads uint8

// Members of Offloads. All but OffloadChecksum need OffloadChecksum.
const (
	OffloadChecksum Offloads = 1 << iota // NeedsChecksum
	OffloadTCP4                          // SegmentTCP4
	OffloadTCP6                          // SegmentTCP6
	OffloadUDP                           // SegmentUDP
	OffloadECN                           // ECN with SegmentTCP4 or SegmentTCP6

	offloadUnknown Offloads = 1 << 7 // which nobody accepts

	OffloadAll = OffloadChecksum | OffloadTCP4 | OffloadTCP6 | OffloadUDP | OffloadECN
)

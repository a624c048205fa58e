// Package vnethdr is the codec of the virtio-net header (OASIS virtio 1.2, 5.1.6), which stands in
// front of each frame in a virtio queue, at a TAP with IFF_VNET_HDR and at a packet socket with
// PACKET_VNET_HDR. It carries a ports.Offload.
//
//	struct virtio_net_hdr {
//	    u8   flags;        // 0
//	    u8   gso_type;     // 1
//	    le16 hdr_len;      // 2
//	    le16 gso_size;     // 4
//	    le16 csum_start;   // 6
//	    le16 csum_offset;  // 8
//	    le16 num_buffers;  // 10, with VIRTIO_NET_F_MRG_RXBUF or VIRTIO_F_VERSION_1
//	};
//
// All fields are little endian. The kernel reads and writes those of TAPs and packet sockets in the
// order of the machine; a big-endian one must ask for little endian with TUNSETVNETLE.
package vnethdr

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/hvswitch/hvswitch/ports"
)

// Lengths of the header in bytes.
const (
	// Size is the length of the header without num_buffers.
	Size = 10

	// MergeableSize is the length with num_buffers.
	MergeableSize = 12
)

// Bits of flags.
const (
	flagNeedsChecksum = 1 << 0 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	flagDataValid     = 1 << 1 // VIRTIO_NET_HDR_F_DATA_VALID
)

// Values of gso_type.
const (
	gsoNone = 0
	gsoTCP4 = 1
	gsoUFO  = 3 // fragmentation of UDP/IPv4 datagrams, which Linux has given up
	gsoTCP6 = 4
	gsoUDP  = 5    // VIRTIO_NET_HDR_GSO_UDP_L4
	gsoECN  = 0x80 // beside gsoTCP4 and gsoTCP6
)

// Lengths of headers and places of checksums in them, in bytes.
const (
	etherLen = 14
	ip4Len   = 20 // RFC 791 3.1, without options
	ip6Len   = 40 // RFC 8200 3, without extension headers

	tcpLen      = 20 // RFC 9293 3.1, without options
	tcpLenMax   = 60
	tcpChecksum = 16

	udpLen      = 8 // RFC 768
	udpChecksum = 6
)

// Errors of Parse. Values, because the sender of the header may be hostile and cheap refusal is the
// answer to that.
var (
	errShort    = refused("it is shorter than 10 bytes")
	errType     = refused("gso_type is unknown")
	errUFO      = refused("gso_type 3 (UDP fragmentation) is not supported")
	errECN      = refused("ECN flag without TCP segmentation")
	errSize     = refused("gso_size is 0")
	errNoSum    = refused("segmentation without NEEDS_CSUM")
	errSumStart = refused("csum_start is in front of the transport header")
	errSumPlace = refused("csum_offset is not that of the transport protocol")
	errSumEnd   = refused("the checksum lies beyond the longest frame")
)

func refused(why string) error {
	return fmt.Errorf("virtio-net header: %s: %w", why, ports.ErrOffload)
}

// Put writes o to the first Size bytes of dst. It leaves num_buffers to the caller. Fields that o
// gives no meaning to are written as 0.
func Put(dst []byte, o ports.Offload) {
	_ = dst[Size-1]
	var flags, gso byte
	var hdrLen, size, start, offset uint16
	if o.ChecksumValid {
		flags = flagDataValid
	}
	if o.NeedsChecksum {
		flags |= flagNeedsChecksum
		start, offset = o.ChecksumStart, o.ChecksumOffset
	}
	switch o.Segment {
	case ports.SegmentTCP4:
		gso = gsoTCP4
	case ports.SegmentTCP6:
		gso = gsoTCP6
	case ports.SegmentUDP:
		gso = gsoUDP
	}
	if gso != gsoNone {
		hdrLen, size = o.HeaderLen, o.SegmentSize
		if o.ECN && gso != gsoUDP {
			gso |= gsoECN
		}
	}
	binary.LittleEndian.PutUint64(dst, uint64(flags)|uint64(gso)<<8|uint64(hdrLen)<<16|uint64(size)<<32|uint64(start)<<48)
	binary.LittleEndian.PutUint16(dst[8:], offset)
}

// Parse reads the header at the front of src and refuses one that no frame could make good. Every
// error wraps ports.ErrOffload.
//
// What it returns is true to itself, but not yet to the frame: whether there are such headers, and
// bytes up to where the checksum goes, is for whoever acts on it to see. Fields without a meaning
// are 0. HeaderLen, which senders may leave out, is within what the transport protocol allows.
//
// Flags that are not known are ignored, as the standard asks. ChecksumValid is a statement of the
// sender: from a guest, which may not make it, the caller clears it.
func Parse(src []byte) (ports.Offload, error) {
	if len(src) < Size {
		return ports.Offload{}, errShort
	}
	flags, gso := src[0], src[1]
	if flags&(flagNeedsChecksum|flagDataValid) == 0 && gso == gsoNone {
		return ports.Offload{}, nil
	}
	var start, offset uint16
	if flags&flagNeedsChecksum != 0 {
		start = binary.LittleEndian.Uint16(src[6:])
		offset = binary.LittleEndian.Uint16(src[8:])
		if start < etherLen {
			return ports.Offload{}, errSumStart
		}
		if int(start)+int(offset)+2 > ports.MaxFrame {
			return ports.Offload{}, errSumEnd
		}
	}
	s, size, hdrLen, err := parseSegment(gso, src, start, offset)
	if err != nil {
		return ports.Offload{}, err
	}
	return ports.Offload{
		NeedsChecksum:  flags&flagNeedsChecksum != 0,
		ChecksumValid:  flags&flagDataValid != 0,
		Segment:        s,
		ECN:            gso&gsoECN != 0,
		SegmentSize:    size,
		HeaderLen:      hdrLen,
		ChecksumStart:  start,
		ChecksumOffset: offset,
	}, nil
}

// parseSegment reads what belongs to gso. Start is 0 when no checksum is asked for.
func parseSegment(gso byte, src []byte, start, offset uint16) (s ports.Segment, size, hdrLen uint16, err error) {
	var front, place, least, most uint16
	switch gso &^ gsoECN {
	case gsoNone:
		if gso != gsoNone {
			err = errECN
		}
		return 0, 0, 0, err
	case gsoTCP4:
		s = ports.SegmentTCP4
		front, place, least, most = etherLen+ip4Len, tcpChecksum, tcpLen, tcpLenMax
	case gsoTCP6:
		s = ports.SegmentTCP6
		front, place, least, most = etherLen+ip6Len, tcpChecksum, tcpLen, tcpLenMax
	case gsoUDP:
		s = ports.SegmentUDP
		front, place, least, most = etherLen+ip4Len, udpChecksum, udpLen, udpLen
	case gsoUFO:
		return 0, 0, 0, errUFO
	default:
		return 0, 0, 0, errType
	}
	size = binary.LittleEndian.Uint16(src[4:])
	switch {
	case s == ports.SegmentUDP && gso&gsoECN != 0:
		return 0, 0, 0, errECN
	case size == 0:
		return 0, 0, 0, errSize
	case start == 0:
		return 0, 0, 0, errNoSum
	case start < front:
		return 0, 0, 0, errSumStart
	case offset != place:
		return 0, 0, 0, errSumPlace
	case start > math.MaxUint16-least:
		return 0, 0, 0, errSumEnd
	}
	hdrLen = binary.LittleEndian.Uint16(src[2:])
	if hdrLen < start+least || hdrLen-start > most {
		hdrLen = start + least
	}
	return s, size, hdrLen, nil
}

package segment

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Fields of headers, as offsets from the start of the header.
const (
	ip4Total    = 2 // RFC 791, section 3.1
	ip4ID       = 4
	ip4Checksum = 10
	ip4Len      = 20
	ip6Payload  = 4 // RFC 8200, section 3
	ip6Len      = 40
	tcpSeq      = 4 // RFC 9293, section 3.1
	tcpFlags    = 13
	udpLength   = 4 // RFC 768
)

// TCP flags that not every segment may have.
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagCWR = 0x80 // RFC 3168, section 6.1.2: the response to one congestion, so on one packet
)

// plan is what the segments of a frame have in common.
type plan struct {
	head   [ports.HeadLen]byte // headers, with checksums and, in IPv4, length and ID zero
	len    int                 // of the headers
	l3, l4 int
	v4     bool
	place  int // of the transport checksum, from the first byte of the head

	ip     checksum.Sum // of the IPv4 header in head
	pseudo checksum.Sum // of the pseudo header without the length
	id     uint16
	seq    uint32
	flags  uint8 // of TCP
}

// cut appends the segments of f, which has passed Check.
func (s *Segmenter) cut(out []*ports.Frame, f *ports.Frame, h *header.Header, accept ports.Offloads) ([]*ports.Frame, error) {
	head := f.Head()
	var p plan
	end := p.take(head, h)
	size := int(f.Offload.SegmentSize)
	total := end - p.len
	n := max(1, (total+size-1)/size)
	if n > MaxSegments-s.used {
		return out, ErrFull
	}
	from := cursor{head[p.len:min(len(head), end)], f.Body()}
	leave := accept&ports.OffloadChecksum != 0
	tcp := h.Proto == header.TCP
	for done := 0; n > 0; n-- {
		k := min(size, total-done)
		g, mem := s.slot()
		inHead := min(k, ports.HeadLen-p.len)
		g.SetHead(mem[:], ports.Headroom, p.len+inHead)
		g.VLAN = f.VLAN
		b := g.Head()
		copy(b, p.head[:p.len])
		from.copyTo(b[p.len:])
		from.lendTo(g, k-inHead)

		if tcp {
			flags := p.flags
			if done > 0 {
				flags &^= flagCWR
			}
			if n > 1 {
				flags &^= flagFIN | flagPSH
			}
			b[p.l4+tcpFlags] = flags
			binary.BigEndian.PutUint32(b[p.l4+tcpSeq:], p.seq+uint32(done))
		} else {
			binary.BigEndian.PutUint16(b[p.l4+udpLength:], uint16(p.len-p.l4+k))
		}
		p.setLength(b, k)
		p.setChecksum(g, b, k, leave)
		out = append(out, g)
		done += k
	}
	return out, nil
}

// take takes over the headers and returns the end of the IP packet in the frame.
func (p *plan) take(head []byte, h *header.Header) (end int) {
	p.l3, p.l4, p.len = int(h.L3), int(h.L4), int(h.Payload)
	p.v4 = h.Flags&header.IPv4 != 0
	b := p.head[:copy(p.head[:], head[:p.len])]
	if p.v4 {
		ip := b[p.l3:p.l4]
		end = p.l3 + int(binary.BigEndian.Uint16(ip[ip4Total:]))
		p.id = binary.BigEndian.Uint16(ip[ip4ID:])
		clear(ip[ip4Total : ip4ID+2])
		clear(ip[ip4Checksum : ip4Checksum+2])
		p.ip.Add(ip)
	} else {
		end = p.l3 + ip6Len + int(binary.BigEndian.Uint16(b[p.l3+ip6Payload:]))
	}
	if h.Proto == header.TCP {
		p.place = p.l4 + tcpChecksum
		p.seq = binary.BigEndian.Uint32(b[p.l4+tcpSeq:])
		p.flags = b[p.l4+tcpFlags]
	} else {
		p.place = p.l4 + udpChecksum
	}
	clear(b[p.place : p.place+2])
	p.pseudo.AddPseudo(h.AddrBytes(head), h.Proto, 0)
	return end
}

// setLength writes the lengths of a segment of k bytes payload to its IP header, and what follows from
// them. Each segment is a datagram of its own, with an ID of its own.
func (p *plan) setLength(b []byte, k int) {
	if !p.v4 {
		binary.BigEndian.PutUint16(b[p.l3+ip6Payload:], uint16(p.len-p.l3-ip6Len+k))
		return
	}
	ip := b[p.l3 : p.l3+ip4Len]
	n := uint16(p.len - p.l3 + k)
	binary.BigEndian.PutUint16(ip[ip4Total:], n)
	binary.BigEndian.PutUint16(ip[ip4ID:], p.id)
	sum := p.ip
	sum.AddWord(n)
	sum.AddWord(p.id)
	binary.BigEndian.PutUint16(ip[ip4Checksum:], sum.Checksum())
	p.id++
}

// setChecksum writes the transport checksum of segment g with head b and k bytes payload, or leaves it
// to the destination.
func (p *plan) setChecksum(g *ports.Frame, b []byte, k int, leave bool) {
	sum := p.pseudo
	sum.AddWord(uint16(p.len - p.l4 + k))
	if leave {
		g.Offload.NeedsChecksum = true
		g.Offload.ChecksumStart = uint16(p.l4)
		g.Offload.ChecksumOffset = uint16(p.place - p.l4)
		binary.BigEndian.PutUint16(b[p.place:], sum.Fold())
		return
	}
	sum.Add(b[p.l4:])
	for _, s := range g.Body() {
		sum.Add(s)
	}
	binary.BigEndian.PutUint16(b[p.place:], present(sum.Checksum()))
}

// cursor walks over the payload of a frame, which must be long enough.
type cursor struct {
	piece []byte
	rest  [][]byte
}

func (c *cursor) copyTo(dst []byte) {
	for {
		n := copy(dst, c.piece)
		c.piece, dst = c.piece[n:], dst[n:]
		if len(dst) == 0 {
			return
		}
		c.piece, c.rest = c.rest[0], c.rest[1:]
	}
}

// lendTo adds the next n bytes to the body of g.
func (c *cursor) lendTo(g *ports.Frame, n int) {
	for n > 0 {
		if len(c.piece) == 0 {
			c.piece, c.rest = c.rest[0], c.rest[1:]
			continue
		}
		k := min(n, len(c.piece))
		g.AppendBody(c.piece[:k])
		c.piece, n = c.piece[k:], n-k
	}
}

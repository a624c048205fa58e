package sflow

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Numbers of sFlow version 5: address types, and formats of enterprise 0.
const (
	version = 5

	addressIPv4 = 1
	addressIPv6 = 2

	flowSample     = 1 // of samples
	countersSample = 2

	rawHeader      = 1 // of flow records
	extendedSwitch = 1001
	portName       = 1005 // of counter records

	headerEthernet = 1 // header_protocol
	fcsLen         = 4

	maxDatagramLen = 1400
	maxNameLen     = 255
	maxSampleLen   = 512 // of both kinds, with the longest header and name
)

// datagram is an sFlow datagram in the making.
type datagram struct {
	subAgent uint32
	start    time.Time
	sequence uint32
	send     func(b []byte)

	buf      []byte
	samples  uint32
	agentLen int
}

func newDatagram(agent netip.Addr, subAgent uint32) *datagram {
	d := &datagram{subAgent: subAgent, start: time.Now(), buf: make([]byte, 0, maxDatagramLen+maxSampleLen)}
	kind := uint32(addressIPv6)
	if agent.Is4() {
		kind = addressIPv4
	}
	d.buf = append(appendWords(d.buf, version, kind), agent.AsSlice()...)
	d.agentLen = len(d.buf)
	d.begin()
	return d
}

func (d *datagram) begin() {
	d.samples = 0
	d.buf = appendWords(d.buf[:d.agentLen], d.subAgent, 0, 0, 0) // sequence, uptime, samples: see emit
}

func (d *datagram) flush() {
	if d.samples > 0 {
		d.emit(len(d.buf))
		d.begin()
	}
}

// emit sends the first n bytes.
func (d *datagram) emit(n int) {
	d.sequence++
	word := binary.BigEndian.PutUint32
	word(d.buf[d.agentLen+4:], d.sequence)
	word(d.buf[d.agentLen+8:], uint32(time.Since(d.start).Milliseconds()))
	word(d.buf[d.agentLen+12:], d.samples)
	d.send(d.buf[:n])
}

// add adds a sample of that format, whose body write appends. When it makes the datagram too long, what is
// before it is sent first.
func (d *datagram) add(format uint32, write func(b []byte) []byte) {
	start := len(d.buf)
	d.buf = write(appendWords(d.buf, format, 0))
	binary.BigEndian.PutUint32(d.buf[start+4:], uint32(len(d.buf)-start-8))
	if len(d.buf) > maxDatagramLen {
		d.emit(start)
		last := d.buf[start:]
		d.begin()
		d.buf = append(d.buf, last...) // towards the front of the same memory
	}
	d.samples++
}

// flow adds a flow sample.
func (d *datagram) flow(s *sample) {
	src := s.source
	// Samples of different workers may overtake each other, sample_pool must not go back.
	src.pool = max(src.pool, s.pool)
	src.flowSamples++
	index := s.input
	if s.output != 0 {
		index = s.output
	}
	d.add(flowSample, func(b []byte) []byte {
		records := uint32(1)
		if s.tagged {
			records = 2
		}
		b = appendWords(b, src.flowSamples, index, src.rate, uint32(src.pool), s.drops, s.input, s.output, records)
		const fixedLen = 16
		b = appendWords(b, rawHeader, uint32(fixedLen+padded(s.headerLen)), headerEthernet, s.frameLen, fcsLen)
		b = appendOpaque(b, s.header[:s.headerLen])
		if s.tagged {
			const dataLen = 16
			var in, out [2]uint32 // VLAN and priority
			tag := [2]uint32{uint32(s.tci & 0xfff), uint32(s.tci >> 13)}
			if s.output == 0 {
				in = tag
			} else {
				out = tag
			}
			b = appendWords(b, extendedSwitch, dataLen, in[0], in[1], out[0], out[1])
		}
		return b
	})
}

// counters adds a counter sample.
func (d *datagram) counters(s *counterSample) {
	src, index := s.source, uint32(s.port.Index+1)
	src.counterSamples++
	name := s.port.Name[:min(len(s.port.Name), maxNameLen)]
	d.add(countersSample, func(b []byte) []byte {
		const records = 2
		b = appendWords(b, src.counterSamples, index, records)
		b = s.Counters.appendTo(b, index)
		b = appendWords(b, portName, uint32(4+padded(len(name))))
		return appendOpaque(b, []byte(name))
	})
}

func appendWords(b []byte, words ...uint32) []byte {
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// padded returns n rounded up to a multiple of 4 (XDR, RFC 4506, section 4.10).
func padded(n int) int { return (n + 3) &^ 3 }

// appendOpaque appends variable-length opaque data (XDR, RFC 4506, section 4.10).
func appendOpaque(b, data []byte) []byte {
	b = append(appendWords(b, uint32(len(data))), data...)
	return append(b, make([]byte, padded(len(data))-len(data))...)
}

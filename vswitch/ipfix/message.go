package ipfix

import (
	"encoding/binary"
	"time"
)

const (
	version       = 10 // RFC 7011, section 3.1
	headerLen     = 16
	setHeaderLen  = 4
	maxMessageLen = 1400
	maxNameLen    = 254 // section 7: a length in one octet
)

// message is an IPFIX message in the making (RFC 7011, section 3).
type message struct {
	domain   uint32
	sequence uint32 // data records in the messages before
	records  uint32 // data records in this one
	send     func(b []byte)

	buf   []byte
	set   uint16 // identifier of the last set, 0 without one
	start int    // of the last set
}

func newMessage(domain uint32) *message {
	return &message{domain: domain, buf: make([]byte, headerLen, maxMessageLen)}
}

// room makes room for n bytes in a set with that identifier: in the last one, in a new one, or in a
// new message.
func (m *message) room(set uint16, n int) {
	need := n
	if m.set != set {
		need += setHeaderLen
	}
	if len(m.buf)+need > maxMessageLen {
		m.flush()
	}
	if m.set != set {
		m.endSet()
		m.set, m.start = set, len(m.buf)
		m.buf = append(m.buf, byte(set>>8), byte(set), 0, 0)
	}
}

func (m *message) endSet() {
	if m.set != 0 {
		binary.BigEndian.PutUint16(m.buf[m.start+2:], uint16(len(m.buf)-m.start))
		m.set = 0
	}
}

// flush sends what is there.
func (m *message) flush() {
	m.endSet()
	if len(m.buf) == headerLen {
		return
	}
	b := m.buf
	binary.BigEndian.PutUint16(b, version)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:], uint32(time.Now().Unix()))
	binary.BigEndian.PutUint32(b[8:], m.sequence)
	binary.BigEndian.PutUint32(b[12:], m.domain)
	m.send(b)
	m.sequence += m.records
	m.records = 0
	m.buf = b[:headerLen]
}

// templates adds all templates.
func (m *message) templates() {
	for i := range templates {
		t := &templates[i]
		m.room(templateSet, 4+4*len(t.fields))
		m.buf = t.appendTo(m.buf)
	}
	m.room(optionsTemplateSet, 6+4*2)
	m.buf = appendNamesTemplate(m.buf)
}

// name adds the name of an interface, of which it takes 254 bytes.
func (m *message) name(port uint32, name string) {
	name = name[:min(len(name), maxNameLen)]
	m.room(namesTemplate, 4+1+len(name))
	m.buf = binary.BigEndian.AppendUint32(m.buf, port)
	m.buf = append(m.buf, byte(len(name)))
	m.buf = append(m.buf, name...)
	m.records++
}

// flow adds the record of a flow. epoch is what its times count from, in ms since 1970.
func (m *message) flow(r *record, epoch int64) {
	t := &templates[r.kind]
	m.room(t.id, t.length)
	b := m.buf
	b = binary.BigEndian.AppendUint32(b, r.port)
	b = binary.BigEndian.AppendUint16(b, r.vlan)
	b = append(b, r.macs[6:]...)
	b = append(b, r.macs[:6]...)
	b = binary.BigEndian.AppendUint64(b, uint64(epoch+r.first))
	b = binary.BigEndian.AppendUint64(b, uint64(epoch+r.last))
	b = binary.BigEndian.AppendUint64(b, r.packets)
	b = append(b, byte(r.reason))
	b = binary.BigEndian.AppendUint64(b, r.octets)
	switch r.kind {
	case layer2:
		b = binary.BigEndian.AppendUint16(b, uint16(r.ports))
	case ipv4:
		b = appendIP(b, r, 8)
	case ipv6:
		b = appendIP(b, r, 32)
	}
	m.buf = b
	m.records++
}

func appendIP(b []byte, r *record, addrs int) []byte {
	b = append(b, r.addrs[:addrs]...)
	b = append(b, r.proto)
	ports, icmp := r.ports, uint16(0)
	if r.isICMP() {
		ports, icmp = 0, uint16(r.ports)
	}
	b = binary.BigEndian.AppendUint32(b, ports)
	b = binary.BigEndian.AppendUint16(b, r.tcp)
	return binary.BigEndian.AppendUint16(b, icmp)
}

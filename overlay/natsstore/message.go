package natsstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"

	"github.com/hvswitch/hvswitch/overlay"
)

// Every message, and every entry of the bucket, begins with magic, a version and a kind.
const (
	magic   = 0x6876 // "hv"
	version = 1

	transactionMessage = 1
	cutMessage         = 2
	snapshotEntry      = 3
	turnMessage        = 4
)

// errNewer says that a message is of a later version of this package. Unlike others it cannot be left
// out, as those who understand it do not.
var errNewer = errors.New("is of a newer version")

const (
	maxParts = 1024

	headerLen = 2 + 1 + 1 + 8
	partLen   = headerLen + 8 + 4 + 4
)

// mark is a message of the log: where it stands and its random id, which a log that was restored and went
// another way does not have there.
type mark struct{ seq, id uint64 }

// message is one of the log.
type message struct {
	kind byte
	id   uint64

	// Of a transaction, which may be cut into parts that follow each other.
	after       uint64 // the sequence number in front of the first part
	part, parts uint32
	payload     []byte

	// Of a cut: messages up to this one are gone, or will be.
	cut uint64
}

// step is a change to the part of the policy that is a virtual network's.
type step struct {
	network int // place in the transaction
	overlay.Change
}

// network is one that a transaction concerns. The zero RDID stands for records without a subnet.
type network struct {
	id     overlay.RDID
	before uint64 // id of the transaction that concerned it last; 0 for none
}

// transaction is what a commit means to each virtual network, in order.
type transaction struct {
	networks []network
	steps    []step
}

func appendHeader(b []byte, kind byte, id uint64) []byte {
	b = binary.BigEndian.AppendUint16(b, magic)
	b = append(b, version, kind)
	return binary.BigEndian.AppendUint64(b, id)
}

func (d *decoder) header() (kind byte, id uint64) {
	h := d.take(2)
	if d.err == nil && binary.BigEndian.Uint16(h) != magic {
		d.fail(errors.New("is not of a policy store"))
	}
	if v := d.uint8(); d.err == nil && v != version {
		d.fail(fmt.Errorf("%w: %d", errNewer, v))
	}
	return d.uint8(), d.uint64()
}

func encodeCut(id, cut uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(nil, cutMessage, id), cut)
}

// decodeMessage reads a message of the log. Its payload is a part of b.
func decodeMessage(b []byte) (m message, err error) {
	d := decoder{b: b}
	m.kind, m.id = d.header()
	switch m.kind {
	case transactionMessage:
		m.after, m.part, m.parts = d.uint64(), d.uint32(), d.uint32()
		m.payload = d.b
		if d.err == nil && (m.part >= m.parts || m.parts > maxParts) {
			d.fail(fmt.Errorf("is part %d of %d", m.part, m.parts))
		}
	case cutMessage:
		m.cut = d.uint64()
		if len(d.b) != 0 {
			d.fail(errors.New("has bytes behind its end"))
		}
	case turnMessage:
	default:
		if d.err == nil {
			d.fail(fmt.Errorf("is of unknown kind %d", m.kind))
		}
	}
	if d.err != nil {
		return message{}, d.err
	}
	return m, nil
}

// encode returns the parts of a transaction, of at most size bytes each, to be written after a sequence
// number.
func (t *transaction) encode(id, after uint64, size int) (parts [][]byte, err error) {
	var p []byte
	p = binary.BigEndian.AppendUint32(p, uint32(len(t.networks)))
	for _, n := range t.networks {
		p = append(p, n.id[:]...)
		p = binary.BigEndian.AppendUint64(p, n.before)
	}
	p = binary.BigEndian.AppendUint32(p, uint32(len(t.steps)))
	for i := range t.steps {
		p = binary.BigEndian.AppendUint32(p, uint32(t.steps[i].network))
		p = appendChange(p, &t.steps[i].Change)
	}
	room := size - partLen
	n := (len(p) + room - 1) / room
	if n > maxParts {
		return nil, fmt.Errorf("transaction of %d bytes is too large: at most %d", len(p), maxParts*room)
	}
	for i := range n {
		b := appendHeader(nil, transactionMessage, id)
		b = binary.BigEndian.AppendUint64(b, after)
		b = binary.BigEndian.AppendUint32(b, uint32(i))
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		parts = append(parts, append(b, p[i*room:min((i+1)*room, len(p))]...))
	}
	return parts, nil
}

// decodeTransaction reads the payloads of all parts.
func decodeTransaction(payload []byte) (*transaction, error) {
	d := decoder{b: payload}
	t := &transaction{networks: make([]network, d.count(16+8))}
	seen := make(map[overlay.RDID]bool, len(t.networks))
	for i := range t.networks {
		n := network{d.rdid(), d.uint64()}
		if seen[n.id] {
			d.fail(fmt.Errorf("names network %s twice", n.id))
		}
		seen[n.id] = true
		t.networks[i] = n
	}
	t.steps = make([]step, 0, d.count(4+minChange))
	for range cap(t.steps) {
		n := d.uint32()
		c := d.change()
		if d.err != nil {
			return nil, d.err
		}
		if uint64(n) >= uint64(len(t.networks)) {
			return nil, fmt.Errorf("has a step in network %d of %d", n, len(t.networks))
		}
		if id := t.networks[n].id; c.Subnet != nil && c.Subnet.RDID != id || c.Route != nil && c.Route.RDID != id {
			return nil, fmt.Errorf("has an object of another network in %s", id)
		}
		t.steps = append(t.steps, step{int(n), c})
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail(errors.New("has bytes behind its end"))
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}

// snapshot is an entry of the bucket: the policy of a virtual network at the moment of the last
// transaction that concerned it.
type snapshot struct {
	at         mark
	generation uint64 // names the chunks
	chunks     uint32 // 0 when the payload is within the entry
	size       uint64 // of the payload
	sum        uint64
	payload    []byte
}

var crcTable = crc64.MakeTable(crc64.ECMA)

const snapshotLen = headerLen + 8 + 8 + 4 + 8 + 8

func (s *snapshot) encode() []byte {
	b := appendHeader(nil, snapshotEntry, s.at.id)
	b = binary.BigEndian.AppendUint64(b, s.at.seq)
	b = binary.BigEndian.AppendUint64(b, s.generation)
	b = binary.BigEndian.AppendUint32(b, s.chunks)
	b = binary.BigEndian.AppendUint64(b, s.size)
	b = binary.BigEndian.AppendUint64(b, s.sum)
	if s.chunks == 0 {
		b = append(b, s.payload...)
	}
	return b
}

func decodeSnapshot(b []byte) (s snapshot, err error) {
	d := decoder{b: b}
	kind, id := d.header()
	s.at = mark{d.uint64(), id}
	s.generation, s.chunks, s.size, s.sum, s.payload = d.uint64(), d.uint32(), d.uint64(), d.uint64(), d.b
	switch {
	case d.err != nil:
	case kind != snapshotEntry:
		d.fail(fmt.Errorf("is of unknown kind %d", kind))
	case s.chunks > 0 && len(s.payload) > 0:
		d.fail(errors.New("has chunks and a payload too"))
	}
	return s, d.err
}

// check returns an error unless the payload is that of the snapshot.
func (s *snapshot) check() error {
	if uint64(len(s.payload)) != s.size || crc64.Checksum(s.payload, crcTable) != s.sum {
		return errors.New("does not have the checksum it says")
	}
	return nil
}

// decodeObjects reads the payload of a network's snapshot.
func decodeObjects(b []byte, id overlay.RDID) (list []overlay.Change, err error) {
	d := decoder{b: b}
	list = make([]overlay.Change, 0, d.count(minChange))
	for range cap(list) {
		c := d.change()
		switch {
		case d.err != nil:
		case c.Delete:
			d.fail(errors.New("has a removal"))
		case c.Subnet != nil && c.Subnet.RDID != id || c.Route != nil && c.Route.RDID != id:
			d.fail(errors.New("has an object of another network"))
		}
		if d.err != nil {
			return nil, d.err
		}
		list = append(list, c)
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail(errors.New("has bytes behind its end"))
	}
	return list, d.err
}

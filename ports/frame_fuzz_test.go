package ports

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// model is a frame as plain bytes: the slow, obvious one.
type model struct {
	bytes   []byte // without the tag beside
	head    int    // bytes of it in the head
	room    int    // headroom
	tag     Tag
	offload Offload
}

func (m *model) clone() *model {
	c := *m
	c.bytes = bytes.Clone(m.bytes)
	return &c
}

func (m *model) hasTag() bool { return m.tag.TPID != 0 && m.head >= 12 }

func (m *model) wire() []byte {
	if !m.hasTag() {
		return m.bytes
	}
	w := bytes.Clone(m.bytes[:12])
	w = binary.BigEndian.AppendUint16(w, m.tag.TPID)
	w = binary.BigEndian.AppendUint16(w, m.tag.TCI)
	return append(w, m.bytes[12:]...)
}

func (m *model) move(n int) {
	if m.offload.NeedsChecksum {
		m.offload.ChecksumStart += uint16(n)
	}
	if m.offload.HeaderLen != 0 {
		m.offload.HeaderLen = uint16(max(0, int(m.offload.HeaderLen)+n))
	}
}

func (m *model) popTag() bool {
	if m.tag.TPID != 0 || m.head < 18 {
		return false
	}
	tpid := binary.BigEndian.Uint16(m.bytes[12:])
	if tpid != 0x8100 && tpid != 0x88a8 {
		return false
	}
	m.tag = Tag{tpid, binary.BigEndian.Uint16(m.bytes[14:])}
	m.bytes = append(bytes.Clone(m.bytes[:12]), m.bytes[16:]...)
	m.head -= 4
	m.room += 4
	m.move(-4)
	return true
}

// check compares everything that can be seen of a frame with the model.
func (m *model) check(t *testing.T, f *Frame) {
	t.Helper()
	want := m.wire()
	dst := make([]byte, len(want)+1)
	dst[len(want)] = 0xee
	if n := f.CopyTo(dst); n != len(want) || n != f.WireLen() || !bytes.Equal(dst[:n], want) || dst[n] != 0xee {
		t.Fatalf("CopyTo wrote %d bytes, WireLen %d, want %d:\n%x\n%x", n, f.WireLen(), len(want), dst, want)
	}
	var tag [4]byte
	if got := bytes.Join(f.AppendVec(nil, &tag), nil); !bytes.Equal(got, want) {
		t.Fatalf("AppendVec %x, want %x", got, want)
	}
	if f.Len() != len(m.bytes) || !bytes.Equal(f.Head(), m.bytes[:m.head]) || !bytes.Equal(bytes.Join(f.Body(), nil), m.bytes[m.head:]) {
		t.Fatalf("frame of %d bytes, %d in its head, want %d, %d", f.Len(), len(f.Head()), len(m.bytes), m.head)
	}
	o := m.clone()
	if o.hasTag() {
		o.move(4)
	}
	if f.VLAN != m.tag || f.Offload != m.offload || f.WireOffload() != o.offload {
		t.Fatalf("tag %+v, request %+v, on the wire %+v; want %+v, %+v, %+v",
			f.VLAN, f.Offload, f.WireOffload(), m.tag, m.offload, o.offload)
	}
	payload := len(want) - 14
	if p := m.clone(); m.hasTag() || p.popTag() {
		payload -= 4
	}
	if !m.hasTag() && m.tag.TPID != 0 {
		return // a runt: what its tag means for its payload does not matter
	}
	if f.Fits(payload-1) || !f.Fits(payload) {
		t.Fatalf("Fits(%d) %t, Fits(%d) %t, the payload is %d bytes", payload-1, f.Fits(payload-1), payload, f.Fits(payload), payload)
	}
}

// FuzzFrame runs a program of operations on a frame and on the model.
func FuzzFrame(f *testing.F) {
	tagged := ethernet(50, 0x8100, 100, 0x0800)
	f.Add(tagged, []byte{0, 1, 40, 2, 40, 3, 100, 4, 0, 5, 0})
	f.Add(ethernet(300, 0x88a8, 1, 0x8100, 2, 0x86dd), []byte{0, 0, 0, 4, 0, 0, 6, 1, 1, 100, 5, 0, 7, 3, 2, 14})
	f.Add(tagged, []byte{3, 255, 3, 255, 4, 9, 1, 128, 1, 1, 6, 0, 4, 0, 5, 0})
	f.Add(count(11), []byte{6, 0, 1, 1, 4, 0, 5, 0})
	f.Add([]byte{}, []byte{0, 2, 0, 5, 0, 4, 0})
	f.Fuzz(func(t *testing.T, data, program []byte) {
		if len(data) > 4096 || len(program) > 64 {
			return
		}
		frame := frameOf(data)
		m := &model{bytes: bytes.Clone(data), head: len(data), room: Headroom}
		m.check(t, frame)

		// Copies and forks take the place of the frame; their sources must stay as they are.
		type source struct {
			f *Frame
			m *model
		}
		var sources []source
		copied, forked := new(Frame), new(Frame)
		arg := func() int {
			if len(program) == 0 {
				return 0
			}
			a := program[0]
			program = program[1:]
			return int(a)
		}
		for len(program) > 0 {
			switch op := arg(); op % 8 {
			case 0:
				if got, want := frame.PopTag(), m.popTag(); got != want {
					t.Fatalf("PopTag %t, want %t", got, want)
				}
			case 1:
				n := arg()
				h := frame.Prepend(n)
				if (h != nil) != (n <= m.room) {
					t.Fatalf("Prepend(%d) with headroom of %d: %t", n, m.room, h != nil)
				}
				if h == nil {
					break
				}
				for i := range n {
					h[i] = byte(i)
				}
				m.bytes = append(count(n), m.bytes...)
				m.head += n
				m.room -= n
				m.move(n)
			case 2:
				n := min(arg(), m.head)
				frame.TrimFront(n)
				m.bytes = m.bytes[n:]
				m.head -= n
				m.room += n
				m.move(-n)
			case 3:
				seg := count(3 * arg())
				frame.AppendBody(seg)
				m.bytes = append(bytes.Clone(m.bytes), seg...)
			case 4:
				copied.CopyFrom(frame)
				sources = append(sources, source{frame, m})
				frame, copied, m = copied, new(Frame), m.clone()
				m.head, m.room = len(m.bytes), Headroom
			case 5:
				forked.Fork(frame)
				sources = append(sources, source{frame, m})
				frame, forked, m = forked, new(Frame), m.clone()
				m.head, m.room = min(m.head, HeadLen), Headroom
			case 6:
				tag := Tag{TPID: TPID8021Q, TCI: uint16(arg()) << 4}
				frame.VLAN, m.tag = tag, tag
			case 7:
				a := uint16(arg())
				o := Offload{NeedsChecksum: a&1 != 0, Segment: Segment(a >> 1 & 3), ChecksumStart: a, HeaderLen: 2 * a, SegmentSize: a}
				frame.Offload, m.offload = o, o
			}
			m.check(t, frame)
		}
		for i := range frame.Head() {
			frame.Head()[i] ^= 0xff
		}
		for _, s := range sources {
			s.m.check(t, s.f)
		}
	})
}

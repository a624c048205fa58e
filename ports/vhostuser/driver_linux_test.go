package vhostuser

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// buffer is a piece of guest memory, by its place in vm.mem.
type buffer struct {
	off, len int
}

// virtqueue is the driver's side of a ring: split or packed.
type virtqueue struct {
	vm       *vm
	index    int
	size     int
	packed   bool
	eventIdx bool
	inOrder  bool

	desc, avail, used int // places in vm.mem
	kick, call        int // eventfd

	free   []uint16 // split: descriptors; packed: ids
	next   uint16   // available index, or slot
	wrap   bool
	seen   uint16 // used index, or slot
	seenW  bool
	slots  int // free ones of a packed ring
	tokens []token
	kicks  int // notifications that were sent
	tables map[int]int
}

// token is a chain that the device has.
type token struct {
	ids   []uint16
	slots int
	tag   int
}

func newVirtqueue(g *vm, index, size int) *virtqueue {
	q := &virtqueue{
		vm: g, index: index, size: size,
		packed:   g.features&featPacked != 0,
		eventIdx: g.features&featEventIdx != 0,
		inOrder:  g.features&featInOrder != 0,
		desc:     g.alloc(size*descLen, 4096),
		avail:    g.alloc(6+2*size, 4096),
		used:     g.alloc(6+8*size, 4096),
		kick:     g.eventfd(), call: g.eventfd(),
		tables: map[int]int{},
	}
	q.reset()
	return q
}

// reset makes the ring as it is before the driver has used it.
func (q *virtqueue) reset() {
	clear(q.vm.mem[q.desc:][:q.size*descLen])
	clear(q.vm.mem[q.avail:][:6+2*q.size])
	clear(q.vm.mem[q.used:][:6+8*q.size])
	q.next, q.wrap, q.seen, q.seenW, q.slots = 0, true, 0, true, q.size
	q.free = nil
	for i := range q.size {
		q.free = append(q.free, uint16(i))
	}
	q.tokens = make([]token, q.size)
	if q.packed {
		q.disableCalls()
	}
}

func (q *virtqueue) p(off int) unsafe.Pointer { return unsafe.Pointer(&q.vm.mem[off]) }

func (q *virtqueue) load32(off int) uint32     { return atomic.LoadUint32((*uint32)(q.p(off))) }
func (q *virtqueue) store32(off int, v uint32) { atomic.StoreUint32((*uint32)(q.p(off)), v) }
func (q *virtqueue) load16(off int) uint16     { return load16(q.p(off)) }

// add makes a chain available and notifies the device if it wants that. It reports false when there is no
// room.
func (q *virtqueue) add(bufs []buffer, write bool, indirect bool, tag int) bool {
	if !q.put(bufs, write, indirect, tag) {
		return false
	}
	q.publish(1)
	return true
}

var le = binary.LittleEndian

// put writes a chain. It becomes available by publish.
func (q *virtqueue) put(bufs []buffer, write, indirect bool, tag int) bool {
	var flags uint16
	if write {
		flags = descWrite
	}
	if indirect {
		table := q.table(tag)
		for i, b := range bufs {
			f, next := flags, uint16(0)
			if i < len(bufs)-1 && !q.packed {
				f, next = f|descNext, uint16(i+1)
			}
			q.write(q.vm.mem[table+i*descLen:], b, f, next)
		}
		bufs, flags = []buffer{{table, len(bufs) * descLen}}, descIndirect
	}
	if q.packed {
		return q.putPacked(bufs, flags, tag)
	}
	if len(q.free) < len(bufs) {
		return false
	}
	ids := append([]uint16(nil), q.free[:len(bufs)]...)
	q.free = q.free[len(bufs):]
	for i, b := range bufs {
		f, next := flags, uint16(0)
		if i < len(bufs)-1 {
			f, next = f|descNext, ids[i+1]
		}
		q.write(q.vm.mem[q.desc+int(ids[i])*descLen:], b, f, next)
	}
	q.tokens[ids[0]] = token{ids, len(ids), tag}
	le.PutUint16(q.vm.mem[q.avail+4+2*(int(q.next)&(q.size-1)):], ids[0])
	q.next++
	return true
}

// table returns the place of the indirect table of a chain, which has room for 16 descriptors.
func (q *virtqueue) table(tag int) int {
	at, ok := q.tables[tag]
	if !ok {
		at = q.vm.alloc(16*descLen, 16)
		q.tables[tag] = at
	}
	return at
}

// write writes a descriptor. In a packed table, id takes the place of flags and flags that of next.
func (q *virtqueue) write(d []byte, b buffer, flags, next uint16) {
	le.PutUint64(d, q.vm.physical(b.off))
	le.PutUint32(d[8:], uint32(b.len))
	if q.packed {
		le.PutUint16(d[12:], 0)
		le.PutUint16(d[14:], flags)
		return
	}
	le.PutUint16(d[12:], flags)
	le.PutUint16(d[14:], next)
}

func (q *virtqueue) putPacked(bufs []buffer, flags uint16, tag int) bool {
	if len(q.free) == 0 || q.slots < len(bufs) {
		return false
	}
	id := q.free[0]
	q.free = q.free[1:]
	q.slots -= len(bufs)
	first, firstFlags := q.next, uint16(0)
	for i, b := range bufs {
		f := flags
		if i < len(bufs)-1 {
			f |= descNext
		}
		if q.wrap {
			f |= descAvail
		} else {
			f |= descUsed
		}
		d := q.vm.mem[q.desc+int(q.next)*descLen:]
		le.PutUint64(d, q.vm.physical(b.off))
		le.PutUint32(d[8:], uint32(b.len))
		if i == 0 {
			firstFlags = f
		} else {
			q.store32(q.desc+int(q.next)*descLen+12, uint32(id)|uint32(f)<<16)
		}
		if q.next++; int(q.next) == q.size {
			q.next, q.wrap = 0, !q.wrap
		}
	}
	q.tokens[id] = token{[]uint16{id}, len(bufs), tag}
	q.store32(q.desc+int(first)*descLen+12, uint32(id)|uint32(firstFlags)<<16)
	return true
}

// publish makes n chains available.
func (q *virtqueue) publish(n int) {
	if q.packed {
		var fence atomic.Uint32
		fence.Store(1)
		w := q.load32(q.used)
		switch w >> 16 {
		case eventDisable:
			return
		case eventDesc:
			if q.eventIdx {
				// Have we passed it? As Linux does it, for one chain of any length at a time.
				event := int(w & 0x7fff)
				if w&0x8000 != 0 != q.wrap {
					event -= q.size
				}
				old := int(q.next) - q.lastSlots()*n
				if event < old || event >= int(q.next) {
					return
				}
			}
		}
		q.notify()
		return
	}
	flags := q.load32(q.avail) & 0xffff
	q.store32(q.avail, flags|uint32(q.next)<<16)
	if q.eventIdx {
		if !needEvent(q.load16(q.used+4+8*q.size), q.next, q.next-uint16(n)) {
			return
		}
	} else if q.load32(q.used)&noNotify != 0 {
		return
	}
	q.notify()
}

// lastSlots is more than any chain takes: to notify too often does no harm.
func (q *virtqueue) lastSlots() int { return 8 }

func (q *virtqueue) notify() {
	q.kicks++
	signal(q.kick)
}

// get takes the next used chain.
func (q *virtqueue) get() (tag, n int, ok bool) {
	var id uint16
	if q.packed {
		d := q.desc + int(q.seen)*descLen
		w := q.load32(d + 12)
		flags := uint16(w >> 16)
		if flags&descAvail != 0 != q.seenW || flags&descUsed != 0 != q.seenW {
			return 0, 0, false
		}
		id, n = uint16(w), int(le.Uint32(q.vm.mem[d+8:]))
	} else {
		if uint16(q.load32(q.used)>>16) == q.seen {
			return 0, 0, false
		}
		e := q.vm.mem[q.used+4+8*(int(q.seen)&(q.size-1)):]
		id, n = uint16(le.Uint32(e)), int(le.Uint32(e[4:]))
	}
	k := q.tokens[id]
	if k.ids == nil {
		panic("the device used a chain that it does not have")
	}
	q.tokens[id] = token{}
	q.free = append(q.free, k.ids...)
	if q.packed {
		q.slots += k.slots
		q.seen += uint16(k.slots)
		if int(q.seen) >= q.size {
			q.seen, q.seenW = q.seen-uint16(q.size), !q.seenW
		}
	} else {
		q.seen++
	}
	return k.tag, n, true
}

// disableCalls asks the device not to notify us.
func (q *virtqueue) disableCalls() {
	switch {
	case q.packed:
		q.store32(q.avail, eventDisable<<16)
	case !q.eventIdx:
		q.store32(q.avail, uint32(q.next)<<16|noInterrupt)
	}
}

// enableCalls asks for a notification of the next used chain.
func (q *virtqueue) enableCalls() {
	switch {
	case q.packed && q.eventIdx:
		w := uint32(q.seen) | eventDesc<<16
		if q.seenW {
			w |= 0x8000
		}
		q.store32(q.avail, w)
	case q.packed:
		q.store32(q.avail, eventEnable<<16)
	case q.eventIdx:
		le.PutUint16(q.vm.mem[q.avail+4+2*q.size:], q.seen)
		q.store32(q.avail, uint32(q.next)<<16)
	default:
		q.store32(q.avail, uint32(q.next)<<16)
	}
}

// called empties the eventfd of notifications and returns how many there were.
func (q *virtqueue) called() uint64 {
	var b [8]byte
	if n, _ := unix.Read(q.call, b[:]); n != 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b[:])
}

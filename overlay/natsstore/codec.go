package natsstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// errShort says that a message ends too early, or says more than there is.
var errShort = errors.New("is cut short")

// Kinds of objects on the wire. A removal is its kind and deleted.
const (
	subnetKind = 1 + iota
	recordKind
	routeKind

	deleted = 0x80
)

// minChange is the shortest change: the kind of a record, its VSID, no addresses, MAC, type, rule.
const minChange = 1 + 4 + 1 + 6 + 1 + 1 + 1

// appendChange appends a change. Addresses have their length in front, numbers are big endian.
func appendChange(b []byte, c *overlay.Change) []byte {
	kind := byte(0)
	if c.Delete {
		kind = deleted
	}
	switch {
	case c.Subnet != nil:
		s := c.Subnet
		b = append(b, kind|subnetKind)
		b = binary.BigEndian.AppendUint32(b, uint32(s.VSID))
		b = append(b, s.RDID[:]...)
		b = append(b, s.RouterMAC[:]...)
		learning := byte(0)
		if s.Learning {
			learning = 1
		}
		b = append(b, learning, byte(s.Unknown))
	case c.Record != nil:
		r := c.Record
		b = append(b, kind|recordKind)
		b = binary.BigEndian.AppendUint32(b, uint32(r.VSID))
		b = appendAddr(b, r.CA)
		b = append(b, r.MAC[:]...)
		b = appendAddr(b, r.PA)
		b = append(b, byte(r.Type), byte(r.Rule))
	case c.Route != nil:
		r := c.Route
		b = append(b, kind|routeKind)
		b = append(b, r.RDID[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(r.VSID))
		b = appendAddr(b, r.Destination.Addr())
		b = append(b, byte(r.Destination.Bits()))
		b = appendAddr(b, r.NextHop)
		b = binary.BigEndian.AppendUint32(b, r.Metric)
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	b = append(b, byte(a.BitLen()/8))
	return append(b, a.AsSlice()...)
}

// decoder reads what was appended. After the first error everything is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail(errShort)
		return make([]byte, n)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint8() uint8   { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// count reads a number of things that have at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uint32()
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *decoder) rdid() (id overlay.RDID) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) mac() (m ports.MAC) {
	copy(m[:], d.take(len(m)))
	return m
}

func (d *decoder) addr() netip.Addr {
	n := d.uint8()
	if n == 0 {
		return netip.Addr{}
	}
	if n != 4 && n != 16 {
		d.fail(fmt.Errorf("has an address of %d bytes", n))
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(d.take(int(n)))
	return a
}

// change reads a valid change.
func (d *decoder) change() (c overlay.Change) {
	kind := d.uint8()
	c.Delete = kind&deleted != 0
	switch kind &^ deleted {
	case subnetKind:
		s := &overlay.Subnet{VSID: overlay.VSID(d.uint32()), RDID: d.rdid(), RouterMAC: d.mac()}
		learning := d.uint8()
		if learning > 1 {
			d.fail(fmt.Errorf("has a subnet with the byte %d for Learning", learning))
		}
		s.Learning, s.Unknown = learning == 1, overlay.UnknownMAC(d.uint8())
		c.Subnet = s
	case recordKind:
		c.Record = &overlay.LookupRecord{VSID: overlay.VSID(d.uint32()), CA: d.addr(), MAC: d.mac(), PA: d.addr(),
			Type: overlay.RecordType(d.uint8()), Rule: overlay.Encapsulation(d.uint8())}
	case routeKind:
		r := &overlay.CustomerRoute{RDID: d.rdid(), VSID: overlay.VSID(d.uint32())}
		a := d.addr()
		r.Destination = netip.PrefixFrom(a, int(d.uint8()))
		r.NextHop, r.Metric = d.addr(), d.uint32()
		c.Route = r
	default:
		if d.err == nil {
			d.fail(fmt.Errorf("has an object of unknown kind %d", kind))
		}
	}
	if d.err != nil {
		return overlay.Change{}
	}
	put := c // what is removed was valid too
	put.Delete = false
	if err := put.Validate(); err != nil {
		d.fail(err)
	}
	return c
}

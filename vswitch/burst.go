package vswitch

import (
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// burst is a batch of frames on its way through the switch, with what the switch knows of each. The
// stages of a pipeline work on a burst as a whole.
type burst struct {
	sw     *Switch
	snap   *snapshot
	in     *portView
	clock  time.Duration // since the host was made
	now    uint32        // clock in units of fdbTick
	frames []*ports.Frame
	meta   []meta // of frames, by index

	bytes    uint64
	longest  int
	offloads bool   // some frame asks for offload
	floods   bool   // some frame goes to more than one port
	chosen   bool   // some frame goes where an extension sends it
	mirrored bool   // meta.mirrored is valid
	tagged   bool   // some frame is in a VLAN or has a priority
	queue    int    // the receive queue's number: frames of one queue leave by one queue
	parsed   bool   // headers are those of frames
	virtual  bool   // the frames are those of virtual subnets, on their way to vNICs there
	overlaid bool   // some frame goes where the overlay sends it
	trace    *trace // of Explain; nil for frames that are really under way

	*scratch
}

// scratch is memory of a worker for the bursts that need it.
type scratch struct {
	headers  [burstSize]header.Header // by index in burst.frames; valid once parsed
	admitted []*ports.Frame
	touched  uint64
	entering extension.Batch // the burst, as the extensions of its source port see it
	overlay  overlaid
}

// parse parses the headers of the frames that are alive, if that has not been done.
func (b *burst) parse() {
	if b.parsed {
		return
	}
	b.parsed = true
	meta, headers := b.meta[:len(b.frames)], b.headers[:len(b.frames)]
	for i, f := range b.frames {
		if m := &meta[i]; m.drop == 0 {
			headers[i].Parse(f.Head(), int(m.len))
		}
	}
}

// meta is what the switch knows of one frame.
type meta struct {
	dst, src uint64 // addresses as loaded from the frame: the first octet is the lowest
	len      int32
	out      int32      // index of the destination port, or one of the values below
	tci      uint16     // the VLAN the frame is in, 0 for the untagged one, and its priority
	fid      uint16     // the VLAN under which its addresses are known
	drop     DropReason // 0 while the frame is alive
	nested   bool       // another tag follows the one beside the frame
	done     bool       // flooded already
	mirrored bool       // a mirror has it already
}

// Values of meta.out beside port indices.
const (
	outGroup   = -1 - iota // every member of the VLAN
	outUnknown             // every member that takes unknown unicast
	outChosen              // where an extension sends it
	outNone                // dropped
)

// vid returns the VLAN that the frame is in; 0 is the untagged one.
func (m *meta) vid() uint16 { return vlan.VID(m.tci) }

const (
	macMask  = 1<<48 - 1
	groupBit = 1 // of an address as loaded
)

// loadMAC returns a as it is loaded from a frame.
func loadMAC(a ports.MAC) uint64 {
	return uint64(a[0]) | uint64(a[1])<<8 | uint64(a[2])<<16 | uint64(a[3])<<24 | uint64(a[4])<<32 | uint64(a[5])<<40
}

func storeMAC(v uint64) ports.MAC {
	return ports.MAC{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24), byte(v >> 32), byte(v >> 40)}
}

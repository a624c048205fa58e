package refswitch

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/hvswitch/hvswitch/ports"
)

// Frame is a frame as it is lent: its bytes, and maybe a tag beside them.
type Frame struct {
	Tag  ports.Tag
	Data []byte
}

// Reason says why a frame was dropped, in the words of the fast switch.
type Reason string

// Reasons. The first ones count at the port that the frame came from, those from LinkDown on at the
// port that it did not reach. Where several apply, it is the first.
const (
	Runt            Reason = "runt"
	Giant           Reason = "giant"
	InvalidVLAN     Reason = "invalid VLAN"
	Tagged          Reason = "tagged"
	WrongTPID       Reason = "wrong TPID"
	NestedTag       Reason = "nested tag"
	InvalidSource   Reason = "invalid source"
	SpoofedSource   Reason = "spoofed source"
	SourceElsewhere Reason = "source elsewhere"
	Reserved        Reason = "reserved address"
	NoDestination   Reason = "no destination"
	SamePort        Reason = "same port"

	LinkDown  Reason = "link down"
	QueueFull Reason = "queue full"
	TooBig    Reason = "too big"
)

// Sent is what is sent to a port.
type Sent struct {
	Frames []Frame // in order
	Lost   int     // how many of them, whichever, the receiver has no room for
}

// Receive takes frames that arrive together at a connected port and returns what is sent where, by
// the name of the port. All of them are learned from before the first is forwarded.
func (h *Host) Receive(port string, frames []Frame) map[string]*Sent {
	in := h.Ports[port]
	type admitted struct {
		Frame
		vlan uint16
	}
	var good []admitted
	for _, f := range frames {
		in.RxFrames++
		in.RxBytes += uint64(len(f.Data))
		f, vlan, why := admit(in, f)
		if why == "" {
			why = h.learn(in, Key{vlan, source(f)})
		}
		if why == "" && isReserved(destination(f)) {
			why = Reserved
		}
		if why != "" {
			in.Drops[why]++
			continue
		}
		good = append(good, admitted{f, vlan})
	}
	sent := map[string]*Sent{}
	for _, f := range good {
		to, why := h.destinations(in, Key{f.vlan, destination(f.Frame)})
		if why != "" {
			in.Drops[why]++
		}
		for _, p := range to {
			p.send(f.Frame, sent)
		}
	}
	return sent
}

const (
	header = 14 // destination, source, type
	tagLen = 4
)

func destination(f Frame) ports.MAC { return ports.MAC(f.Data) }
func source(f Frame) ports.MAC      { return ports.MAC(f.Data[6:]) }
func etherType(f Frame) uint16      { return binary.BigEndian.Uint16(f.Data[12:]) }

func isTag(etherType uint16) bool {
	return etherType == ports.TPID8021Q || etherType == ports.TPID8021AD
}

// isReserved reports whether a is one of 01-80-C2-00-00-00 … 0F.
func isReserved(a ports.MAC) bool {
	a[5] &^= 0x0f
	return a == ports.MAC{0x01, 0x80, 0xc2}
}

// admit says which VLAN a frame from a port is in, if any, and returns the frame with its tag beside
// the bytes.
func admit(in *Port, f Frame) (_ Frame, vlan uint16, _ Reason) {
	if len(f.Data) < header {
		return f, 0, Runt
	}
	if !f.Tag.Present() && isTag(etherType(f)) {
		if len(f.Data) < header+tagLen {
			return f, 0, Runt // a tag that is cut off
		}
		f.Tag = ports.Tag{TPID: etherType(f), TCI: binary.BigEndian.Uint16(f.Data[14:])}
		f.Data = slices.Concat(f.Data[:12], f.Data[16:])
	}
	if len(f.Data) > header+in.Cable.MTU {
		return f, 0, Giant
	}
	if !f.Tag.Present() {
		return f, 0, ""
	}
	tag, nested := f.Tag, isTag(etherType(f))
	vlan = tag.VID()
	switch {
	case !in.Trunk() && (vlan != 0 || tag.TPID != ports.TPID8021Q):
		return f, 0, Tagged
	case tag.TPID != ports.TPID8021Q:
		return f, 0, WrongTPID
	case nested:
		return f, 0, NestedTag
	case vlan == 0:
		f.Tag = ports.Tag{} // a priority: the frame is untagged
	case vlan == 4095:
		return f, 0, InvalidVLAN
	}
	return f, vlan, ""
}

// learn checks the source of a frame and notes where it is.
func (h *Host) learn(in *Port, k Key) Reason {
	s := in.Switch
	if !k.MAC.IsUnicast() {
		return InvalidSource
	}
	if in.VNIC != nil && !in.VNIC.AllowSpoofing && k.MAC != in.VNIC.MAC {
		return SpoofedSource
	}
	switch e := s.Table[k]; {
	case e == nil:
		h.makeRoom(s, in)
		if s.learned(nil) >= s.Config.MaxAddresses {
			h.evict(s, s.largest())
		}
		s.Table[k] = &Entry{Port: in, Seen: h.Now}
		s.Learned++
	case e.Static && e.Port == in:
	case e.Static:
		return SourceElsewhere
	case e.Port == in:
		e.Seen = h.Now
	default:
		if e.inWindow == 0 || h.Now-e.windowStart > h.MoveWindow {
			e.windowStart, e.inWindow = h.Now, 0
		}
		if e.inWindow == h.MaxMoves {
			s.Damped++
			break
		}
		e.inWindow++
		h.makeRoom(s, in)
		e.Port, e.Seen = in, h.Now
		e.Moves++
		s.Moved++
	}
	return ""
}

// makeRoom evicts an address of a port that has as many as it may.
func (h *Host) makeRoom(s *Switch, p *Port) {
	if p.VNIC != nil && s.learned(p) >= p.VNIC.MaxAddresses {
		h.evict(s, []*Port{p})
	}
}

// learned counts the addresses learned at p, or at any port when p is nil.
func (s *Switch) learned(p *Port) int {
	n := 0
	for _, e := range s.Table {
		if !e.Static && (p == nil || e.Port == p) {
			n++
		}
	}
	return n
}

// largest returns the ports that hold most learned addresses.
func (s *Switch) largest() []*Port {
	most := 0
	var l []*Port
	for _, e := range s.Table {
		switch n := s.learned(e.Port); {
		case n > most:
			most, l = n, []*Port{e.Port}
		case n == most:
			l = append(l, e.Port)
		}
	}
	return l
}

// evict makes a switch forget one learned address of one of these ports.
func (h *Host) evict(s *Switch, of []*Port) {
	var keys []Key
	for k, e := range s.Table {
		if !e.Static && slices.Contains(of, e.Port) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.VLAN, b.VLAN), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	delete(s.Table, h.Choose(s, keys))
	s.Evicted++
}

// destinations says where a frame goes.
func (h *Host) destinations(in *Port, k Key) ([]*Port, Reason) {
	s := in.Switch
	hairpin := in.VNIC != nil && in.VNIC.Hairpin
	e := s.Table[k]
	if e != nil && !k.MAC.IsGroup() {
		if e.Port == in && !hairpin {
			return nil, SamePort
		}
		return []*Port{e.Port}, ""
	}
	s.Flooded++
	if !k.MAC.IsGroup() {
		s.FloodedUnknown++
	}
	var to []*Port
	for _, p := range h.connected(s) {
		switch {
		case p == in && !hairpin:
		case k.VLAN != 0 && !p.Trunk():
		case !k.MAC.IsGroup() && p.VNIC != nil && p.VNIC.BlockUnknownUnicast:
		default:
			to = append(to, p)
		}
	}
	if len(to) == 0 {
		return nil, NoDestination
	}
	return to, ""
}

// send sends a frame to a port, one of whose kind carries the frame's VLAN.
func (p *Port) send(f Frame, sent map[string]*Sent) {
	switch {
	case p.Cable.Down:
		p.Drops[LinkDown]++
	case len(f.Data) > header+p.Cable.MTU:
		p.Drops[TooBig]++
	default:
		if sent[p.Name] == nil {
			sent[p.Name] = &Sent{}
		}
		to := sent[p.Name]
		to.Frames = append(to.Frames, f)
		if len(to.Frames) > p.Cable.Room {
			to.Lost++
			p.Drops[QueueFull]++
			return
		}
		p.TxFrames++
	}
}

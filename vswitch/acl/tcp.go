package acl

import "github.com/hvswitch/hvswitch/internal/header"

// TCP is followed as RFC 9293 has it, from between the two ends: what passes here need not arrive, so a
// state is entered when the packet that causes it is seen, and what is old or sent again still passes.
// The windows are those of G. van Rooij, Real Stateful TCP packet Filtering in IP Filter (2001).

// Flags (RFC 9293, section 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	_ // PSH
	tcpACK

	tcpFlags = tcpFIN | tcpSYN | tcpRST | tcpACK
)

// resetTimeout is how long what is on its way still passes behind a RST: 10 s.
const resetTimeout = 100

// maxScale is the largest window scale (RFC 7323, section 2.3).
const maxScale = 14

// tcpSide is what one end of a connection has sent. Sequence numbers are compared modulo 2³².
type tcpSide struct {
	end    uint32 // behind the last byte sent
	limit  uint32 // behind the last byte that the other end ever had a window for
	window uint32 // the largest it has advertised, bytes
	ack    uint32 // the highest acknowledgment sent
}

func before(a, b uint32) bool { return int32(a-b) < 0 }

// segment is what is looked at of a TCP segment.
type segment struct {
	seq, end, ack uint32 // end counts SYN and FIN too
	control       uint32 // the window, not scaled, above 8 bits of flags: a struct of four stays in registers
}

func (s segment) flags() uint8   { return uint8(s.control) }
func (s segment) window() uint32 { return s.control >> 8 }

// maxSegment is taken for the length of a segment whose length is not known: of a first fragment.
const maxSegment = 65535

// readTCP reads the header of a TCP segment that the parser found valid.
func readTCP(head []byte, h *header.Header) (s segment) {
	b := head[h.L4:]
	_ = b[19]
	flags := b[13] & tcpFlags
	s.seq, s.ack, s.control = be32(b[4:]), be32(b[8:]), uint32(be16(b[14:]))<<8|uint32(flags)
	end := int(h.L3) // of the IP packet
	if h.Flags&header.IPv4 != 0 {
		end += int(be16(head[end+2:]))
	} else {
		end += 40 + int(be16(head[end+4:]))
	}
	n := uint32(end) - uint32(h.Payload)
	if h.Flags&header.Fragment != 0 {
		n = maxSegment
	}
	s.end = s.seq + n + uint32(flags&tcpFIN) + uint32(flags&tcpSYN)>>1
	return s
}

// scaleOption returns the window scale option of a SYN (RFC 7323, section 2.2).
func scaleOption(head []byte, h *header.Header) (scale uint8, ok bool) {
	const endOfList, noOperation, windowScale = 0, 1, 3
	for o := head[int(h.L4)+20 : h.Payload]; len(o) > 0; {
		switch {
		case o[0] == endOfList:
			return 0, false
		case o[0] == noOperation:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return 0, false
		case o[0] == windowScale && o[1] == 3:
			return min(o[2], maxScale), true
		}
		o = o[o[1]:]
	}
	return 0, false
}

// validFlags reports whether TCP ever sends a segment with these flags.
func validFlags(flags uint8) bool {
	switch flags {
	case tcpSYN, tcpSYN | tcpACK, tcpACK, tcpFIN | tcpACK, tcpRST, tcpRST | tcpACK:
		return true
	}
	return false
}

// beginsTCP reports whether a segment begins a connection; with pickUp one under way is as good.
func beginsTCP(flags uint8, pickUp bool) bool {
	return flags == tcpSYN || pickUp && flags == tcpACK
}

// openTCP prepares a connection for its first segment, which beginsTCP.
func (c *conn) openTCP(q *packet, s segment) {
	c.flags &^= pickedUp | offered | finOfOpener | finOfOther
	c.scale = [2]uint8{}
	if s.flags()&tcpSYN == 0 {
		c.flags |= pickedUp
		return
	}
	if scale, ok := scaleOption(q.head, q.header); ok {
		c.flags |= offered
		c.scale[0] = scale
	}
	window := max(s.window(), 1)
	c.sides = [2]tcpSide{
		{end: s.end, limit: s.end, window: window},
		{},
	}
	c.complete = s.seq + 1
}

// track judges a segment of a connection and follows it. side is 0 for the side that opened it.
// The new state is returned; the caller stores it.
func (c *conn) track(q *packet, s segment, side int, checkWindows bool) (connState, Reason) {
	state := c.state
	if state == established && s.flags() == tcpACK {
		return state, c.advance(s, side, checkWindows)
	}
	if !validFlags(s.flags()) {
		return state, BadState
	}
	switch state {
	case synSent:
		return c.trackSYNSent(q, s, side)
	case synReceived:
		return c.trackSYNReceived(q, s, side, checkWindows)
	case reset:
		if s.flags()&tcpSYN != 0 {
			return state, BadState
		}
		return state, Established
	}
	switch {
	case s.flags() == tcpSYN|tcpACK:
		// Again, because the acknowledgment was lost.
		if side == 0 || c.flags&pickedUp == 0 && s.seq+1 != c.complete {
			return state, BadState
		}
		return state, Established
	case s.flags() == tcpSYN:
		// The end that opened it has forgotten it. The other will object (RFC 5961, section 4),
		// which ends the connection or not. The other end has no right to begin anew.
		if side != 0 {
			return state, BadState
		}
		return state, Established
	case s.flags()&tcpRST != 0:
		return c.trackRST(s, side, checkWindows)
	}
	reason := c.advance(s, side, checkWindows)
	if reason != Established {
		return state, reason
	}
	if s.flags()&tcpFIN != 0 {
		c.flags |= finOfOpener << side
	}
	return c.openState(), Established
}

// openState is the state of a connection behind its handshake, by the FINs seen.
func (c *conn) openState() connState {
	switch c.flags & (finOfOpener | finOfOther) {
	case 0:
		return established
	case finOfOpener | finOfOther:
		return closing
	}
	return halfClosed
}

// trackSYNSent is for a connection of which only the opener has sent something.
func (c *conn) trackSYNSent(q *packet, s segment, side int) (connState, Reason) {
	other := &c.sides[1]
	switch {
	case side == 0:
		switch {
		case s.flags() == tcpSYN: // again, or another attempt
			c.openTCP(q, s)
			return synSent, Established
		case s.flags()&tcpRST != 0: // to an answer it does not recognize
			return synSent, Established
		}
		return synSent, BadState
	case s.flags()&tcpACK == 0 && s.flags() != tcpSYN:
		return synSent, BadState
	case s.flags() == tcpACK && s.end == s.seq:
		// The other end has an old connection and says so (RFC 5961, section 4); the opener
		// resets that and tries again.
		return synSent, Established
	case s.flags()&tcpACK != 0 && (before(s.ack, c.complete) || before(c.sides[0].end, s.ack)):
		return synSent, BadState // acknowledges what was not sent
	case s.flags()&tcpRST != 0: // refused
		return reset, Established
	case s.flags()&tcpSYN == 0:
		return synSent, BadState
	}
	// SYN and ACK, or at the same time a SYN of its own (RFC 9293, section 3.5).
	scale, ok := scaleOption(q.head, q.header)
	if ok && c.flags&offered != 0 {
		c.scale[1] = scale
	} else {
		c.scale = [2]uint8{}
	}
	window := max(s.window(), 1)
	*other = tcpSide{end: s.end, limit: s.end, window: window, ack: s.ack}
	if s.flags()&tcpACK == 0 {
		other.ack = c.complete - 1
	}
	c.sides[0].limit = other.ack + window
	if before(c.sides[0].limit, c.sides[0].end) {
		c.sides[0].limit = c.sides[0].end
	}
	other.limit = s.end + c.sides[0].window
	c.sides[0].ack = s.seq
	c.complete = s.seq + 1
	return synReceived, Established
}

// trackSYNReceived is for a connection that lacks only the opener's acknowledgment.
func (c *conn) trackSYNReceived(q *packet, s segment, side int, checkWindows bool) (connState, Reason) {
	switch {
	case s.flags()&tcpRST != 0:
		return c.trackRST(s, side, checkWindows)
	case side == 0 && s.flags() == tcpSYN:
		if s.end != c.sides[0].end {
			c.openTCP(q, s) // another attempt
			return synSent, Established
		}
		return synReceived, Established
	case side == 0 && s.flags()&tcpSYN == 0, side == 0 && s.flags() == tcpSYN|tcpACK: // the latter of two SYNs at once
		if before(s.ack, c.complete) || before(c.sides[1].end, s.ack) {
			return synReceived, BadState
		}
	case side == 1 && s.flags()&tcpSYN != 0:
		if s.seq+1 != c.complete {
			return synReceived, BadState
		}
		return synReceived, Established
	}
	reason := c.advance(s, side, checkWindows)
	if reason != Established {
		return synReceived, reason
	}
	if s.flags()&tcpFIN != 0 {
		c.flags |= finOfOpener << side
	}
	if side == 1 {
		return synReceived, Established
	}
	return c.openState(), Established
}

// trackRST ends a connection if the RST is what its receiver would believe (RFC 5961, section 3): one
// that is not passes, but nobody who only guesses can make the connection be forgotten.
func (c *conn) trackRST(s segment, side int, checkWindows bool) (connState, Reason) {
	from, to := &c.sides[side], &c.sides[1-side]
	switch {
	case c.flags&pickedUp != 0, s.seq == to.ack, s.seq == from.end:
		return reset, Established
	case checkWindows && (before(s.seq, to.ack) || before(from.limit, s.seq)):
		return c.state, OutOfWindow
	}
	return c.state, Established
}

// ackWindow is how far behind an acknowledgment may be of what is on its way, at least.
const ackWindow = 66000

// advance takes note of a segment with ACK. What is outside the windows changes nothing, lest somebody who
// guesses makes a RST of his own credible.
func (c *conn) advance(s segment, side int, checkWindows bool) Reason {
	if c.flags&pickedUp != 0 {
		return Established
	}
	from, to := &c.sides[side], &c.sides[1-side]
	if before(from.limit, s.seq) || // more than the other end has room for
		before(s.end, from.end-to.window-1) || // too old
		before(to.end, s.ack) || // acknowledges what was not sent
		before(s.ack, to.end-max(from.window, ackWindow)) { // or what is long past
		if checkWindows {
			return OutOfWindow
		}
		return Established
	}
	window := s.window()
	if s.flags()&tcpSYN == 0 {
		window <<= c.scale[side] & 15
	}
	if before(from.end, s.end) {
		from.end = s.end
	}
	if before(from.ack, s.ack) {
		from.ack = s.ack
	}
	from.window = max(from.window, window)
	if limit := s.ack + max(window, 1); before(to.limit, limit) {
		to.limit = limit
	}
	return Established
}

// sent reports whether a side has sent seq, and it may still be on its way: what an ICMP error must be
// about (RFC 5927, section 4.1).
func (c *conn) sent(seq uint32, side int) bool {
	from, to := &c.sides[side], &c.sides[1-side]
	switch {
	case c.flags&pickedUp != 0, c.state == reset:
		return true
	case c.state == synSent:
		return side == 0 && !before(from.end, seq)
	}
	return !before(from.end, seq) && !before(seq, to.ack-ackWindow)
}

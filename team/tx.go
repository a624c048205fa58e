package team

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

const burstSize = 64 // frames

// txQueue is a transmit queue of the team.
//
// Frames of a batch leave by several members. When the one that had no room last has none again, Send
// comes up short there, and no frame behind has been sent. Another that has none loses what lies in front
// of frames that have been sent already.
type txQueue struct {
	team   *Team
	number int
	gap    uint32 // flowlet ticks

	h     header.Header
	tick  uint32     // of the burst
	noted [64]uint64 // sources entered into the table of vNICs since the tick began

	lanes     *[buckets]lane // nil with HyperVPort
	seen      *snapshot      // that the lanes follow
	balanceAt time.Duration
	load      [MaxMembers]float64 // bytes for each unit of weight, older ones counting less
	total     [MaxMembers]uint64  // of member.txLoad

	full   uint8 // slot that had no room last
	groups [MaxMembers]*group
	forks  []ports.Frame
	forked int
}

// group is the frames of a burst that leave by one member.
type group struct {
	n      int
	bytes  uint64
	frames [burstSize]*ports.Frame
	index  [burstSize]uint8 // in the burst
}

func newTxQueue(t *Team, number int) *txQueue {
	q := &txQueue{team: t, number: number, gap: uint32(t.cfg.FlowletGap>>flowletShift) + 1}
	if t.cfg.Distribution != HyperVPort {
		q.lanes = new([buckets]lane)
		for b := range q.lanes {
			q.lanes[b] = lane{at: nobody, want: nobody, told: nobody}
		}
	}
	return q
}

// Send implements ports.TxQueue.
func (q *txQueue) Send(frames []*ports.Frame) (int, error) {
	s := q.team.snap.Load()
	switch {
	case s.closed:
		return 0, ports.ErrClosed
	case s.active == 0:
		return 0, ports.ErrLinkDown
	case len(frames) == 0:
		return 0, nil
	}
	now := q.team.clock()
	if tick := tickOf(now); tick != q.tick {
		q.tick = tick
		clear(q.noted[:])
	}
	if s != q.seen && q.lanes != nil {
		q.adopt(s)
	}
	if s.dist == Dynamic {
		q.balance(s, now)
	}
	sent := 0
	for sent < len(frames) {
		part := frames[sent:min(len(frames), sent+burstSize)]
		n, err := q.burst(s, now, part)
		sent += n
		if err != nil || n < len(part) {
			return sent, err
		}
	}
	return sent, nil
}

func (q *txQueue) burst(s *snapshot, now time.Duration, frames []*ports.Frame) (int, error) {
	var refused error
	var used uint32
	n := len(frames)
	q.forked = 0
	info := &q.team.info
	plain := min(etherLen+info.MTU, ports.MaxFrame)
	for i, f := range frames {
		if !f.Offload.IsZero() || f.Len() > plain {
			if refused = check(info, f); refused != nil {
				n = i
				break
			}
		}
		way := q.route(s, f, now)
		if way.moving {
			s.slots[way.slot].count.drop(Moving, 1)
			continue
		}
		out := f
		if way.station != 0 {
			out = q.fork(f, way.station)
		}
		g := q.groups[way.slot]
		if g == nil {
			g = new(group)
			q.groups[way.slot] = g
		}
		g.frames[g.n], g.index[g.n] = out, uint8(i)
		g.n++
		g.bytes += uint64(f.Len())
		used |= 1 << way.slot
	}
	limit, sentUpTo := n, 0
	// Whoever had no room last comes first: while nothing else has been sent, the rest can wait for it.
	if used>>q.full&1 != 0 {
		used &^= 1 << q.full
		limit, sentUpTo = q.flush(s.slots[q.full], q.groups[q.full], limit, sentUpTo)
	}
	for ; used != 0; used &= used - 1 {
		slot := bits.TrailingZeros32(used)
		limit, sentUpTo = q.flush(s.slots[slot], q.groups[slot], limit, sentUpTo)
	}
	if limit < n {
		return limit, nil
	}
	return n, refused
}

// check is what a member would say to a frame, so that it is refused before others have been sent.
func check(info *ports.Info, f *ports.Frame) error {
	if !f.Offload.IsZero() && f.Offload.Needs()&^info.Offloads != 0 {
		return ports.ErrOffload
	}
	if f.Len() > ports.MaxFrame || f.Offload.Segment == ports.SegmentNone && !f.Fits(info.MTU) {
		return ports.ErrFrameSize
	}
	return nil
}

// fork returns the frame with another source address; what was lent must not be changed.
func (q *txQueue) fork(f *ports.Frame, station uint64) *ports.Frame {
	if q.forks == nil {
		q.forks = make([]ports.Frame, burstSize)
	}
	out := &q.forks[q.forked]
	q.forked++
	out.Fork(f)
	head := out.Head()
	binary.BigEndian.PutUint32(head[6:], uint32(station>>16))
	binary.BigEndian.PutUint16(head[10:], uint16(station))
	return out
}

// flush sends a group, as far as its frames are in front of limit, and empties it. It returns where the
// burst ends now, and up to where it has been sent.
func (q *txQueue) flush(m *member, g *group, limit, sentUpTo int) (int, int) {
	n, bytes := g.n, g.bytes
	for n > 0 && int(g.index[n-1]) >= limit {
		n--
		bytes -= uint64(g.frames[n].Len())
	}
	frames, index := g.frames[:n], g.index[:n]
	sent, refused := 0, 0
	tx := m.tx[q.number%len(m.tx)]
	tx.mu.Lock()
	for sent < n {
		if tx.gone {
			bytes -= lenOf(frames[sent:])
			m.count.drop(LinkDown, n-sent)
			break
		}
		k, err := tx.tx.Send(frames[sent:])
		sent += k
		if sent == n {
			break
		}
		if err == nil { // no room
			q.full = m.slot
			bytes -= lenOf(frames[sent:])
			at := int(index[sent])
			limit = max(at, sentUpTo)
			lost := 0
			for _, i := range index[sent:] {
				if int(i) < limit {
					lost++
				}
			}
			m.count.drop(QueueFull, lost)
			n = sent
			break
		}
		if errors.Is(err, ports.ErrLinkDown) || errors.Is(err, ports.ErrClosed) {
			bytes -= lenOf(frames[sent:])
			m.count.drop(LinkDown, n-sent)
			q.team.sendFailed(m)
			n = sent
			break
		}
		bytes -= uint64(frames[sent].Len())
		m.count.drop(Refused, 1)
		refused++
		sent++
	}
	tx.mu.Unlock()
	if sent > 0 {
		sentUpTo = max(sentUpTo, int(index[sent-1])+1)
		m.count.txFrames.Add(uint64(sent - refused))
		m.count.txBytes.Add(bytes)
	}
	clear(g.frames[:g.n])
	g.n, g.bytes = 0, 0
	return limit, sentUpTo
}

func lenOf(frames []*ports.Frame) (n uint64) {
	for _, f := range frames {
		n += uint64(f.Len())
	}
	return n
}

package vswitch

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/toeplitz"
	"github.com/hvswitch/hvswitch/ports"
)

// RSSHash is a set of kinds of packets whose headers are hashed (OASIS virtio 1.2, section 5.1.6.4.3).
type RSSHash uint8

// Members of RSSHash. RSSIPv4 and RSSIPv6 hash the addresses of packets to which no other applies.
const (
	RSSIPv4 RSSHash = 1 << iota
	RSSTCP4
	RSSUDP4
	RSSIPv6
	RSSTCP6
	RSSUDP6

	RSSAll = RSSIPv4 | RSSTCP4 | RSSUDP4 | RSSIPv6 | RSSTCP6 | RSSUDP6
)

// RSSConfig spreads what a vNIC is sent over the receive queues of its guest, which are the transmit queues of its
// backend: a Toeplitz hash of the flow chooses an entry of a table, and that names the queue. The frames of a flow
// stay in order. Fragments are hashed by their addresses, so those of one datagram stay together; what is not hashed
// goes to queue 0. VLAN tags are looked behind, tunnel headers are not. Zero fields mean the defaults.
//
// See Microsoft, "RSS Hashing Functions", and OASIS virtio 1.2, section 5.1.6.5.7.
type RSSConfig struct {
	// Key is the secret of the hash, 40 bytes. The default is the key of Microsoft's verification suite,
	// with which senders can choose flows that meet in one queue.
	Key []byte

	// Table names the queue for each value of the last bits of the hash: a power of two from 1 to 128
	// entries. The default is 128 entries that name all queues in turn.
	Table []int

	// Hash is what is hashed; RSSAll by default.
	Hash RSSHash
}

// clone returns a copy that shares no memory.
func (c *RSSConfig) clone() *RSSConfig {
	if c == nil {
		return nil
	}
	return &RSSConfig{Key: slices.Clone(c.Key), Table: slices.Clone(c.Table), Hash: c.Hash}
}

// complete returns a copy with the defaults for a number of queues, or what is wrong with c.
func (c *RSSConfig) complete(queues int) (*RSSConfig, error) {
	c = c.clone()
	if c == nil {
		return nil, nil
	}
	if c.Key == nil {
		c.Key = slices.Clone(toeplitz.DefaultKey[:])
	}
	if c.Table == nil {
		for _, q := range toeplitz.Spread(queues) {
			c.Table = append(c.Table, int(q))
		}
	}
	if c.Hash == 0 {
		c.Hash = RSSAll
	}
	n := len(c.Table)
	switch {
	case len(c.Key) != toeplitz.KeyLen:
		return nil, fmt.Errorf("key has %d bytes, not %d", len(c.Key), toeplitz.KeyLen)
	case n < 1 || n > toeplitz.TableLen || n&(n-1) != 0:
		return nil, fmt.Errorf("table has %d entries, not a power of two from 1 to %d", n, toeplitz.TableLen)
	case c.Hash&^RSSAll != 0:
		return nil, fmt.Errorf("hash %#x is none of %#x", uint8(c.Hash), uint8(RSSAll))
	}
	for i, q := range c.Table {
		if q < 0 || q >= queues {
			return nil, fmt.Errorf("table entry %d is queue %d, but the backend has %d transmit queues", i, q, queues)
		}
	}
	return c, nil
}

// rss is an RSSConfig as the data path uses it.
type rss struct {
	hash  *toeplitz.Hash
	table toeplitz.Table
	types RSSHash
}

// newRSS returns nil for nil.
func (v *VNIC) newRSS(c *RSSConfig) *rss {
	if c == nil {
		return nil
	}
	r := &rss{types: c.Hash}
	switch key, h := toeplitz.Key(c.Key), v.host; {
	case v.cfg.RSS != nil && key == toeplitz.Key(v.cfg.RSS.Key):
		r.hash = v.policy.rss.hash
	case key != toeplitz.DefaultKey:
		r.hash = toeplitz.New(key)
	default:
		if h.defaultHash == nil {
			h.defaultHash = toeplitz.New(key)
		}
		r.hash = h.defaultHash
	}
	for i := range r.table {
		r.table[i] = uint16(c.Table[i%len(c.Table)])
	}
	return r
}

// queue returns the queue of a frame whose head is parsed.
func (r *rss) queue(h *header.Header, head []byte) int {
	var tcp, udp, ip RSSHash
	switch {
	case h.Flags&header.IPv4 != 0:
		tcp, udp, ip = RSSTCP4, RSSUDP4, RSSIPv4
	case h.Flags&header.IPv6 != 0:
		tcp, udp, ip = RSSTCP6, RSSUDP6, RSSIPv6
	default:
		return 0
	}
	if h.Flags&(header.Ports|header.Fragment) == header.Ports {
		if h.Proto == header.TCP && r.types&tcp != 0 || h.Proto == header.UDP && r.types&udp != 0 {
			return r.table.Queue(r.hash.Of(h, head))
		}
	}
	if r.types&ip != 0 {
		return r.table.Queue(r.hash.OfAddresses(h, head))
	}
	return 0
}

// spreading is memory of a worker for frames that go to several queues of a port.
type spreading struct {
	header header.Header
	queues [burstSize]int
	frames [burstSize]*ports.Frame
	owners [burstSize]uint8
	lost   losses
}

// spread is send to the queues that the flows belong to. There are no more frames than in a burst.
func (w *worker) spread(b *burst, to *portView, frames []*ports.Frame, bytes uint64, whole bool, lost *losses) {
	s := &w.spreading
	queues := s.queues[:len(frames)]
	same := true
	for i, f := range frames {
		head := f.Head()
		s.header.Parse(head, f.Len())
		queues[i] = to.rss.queue(&s.header, head)
		same = same && queues[i] == queues[0]
	}
	if same {
		w.sendOn(b, to.tx[queues[0]], to, frames, bytes, whole, lost)
		return
	}
	for left := uint64(1)<<len(frames) - 1; left != 0; {
		queue := queues[bits.TrailingZeros64(left)]
		n := 0
		bytes = 0
		for rest := left; rest != 0; rest &= rest - 1 {
			i := bits.TrailingZeros64(rest)
			if queues[i] != queue {
				continue
			}
			left &^= 1 << i
			s.frames[n] = frames[i]
			bytes += uint64(frames[i].Len())
			if lost != nil {
				s.owners[n] = lost.owner(i)
			}
			n++
		}
		var told *losses
		if lost != nil {
			told = &s.lost
			*told = losses{drops: lost.drops, owners: s.owners[:n]}
		}
		w.sendOn(b, to.tx[queue], to, s.frames[:n], bytes, whole, told)
		if told != nil {
			lost.any = lost.any || told.any
		}
	}
	clear(s.frames[:]) // keep nothing alive
}

// QueueStats are the counters of a queue since its port was connected.
type QueueStats struct {
	Frames, Bytes uint64
}

// Queues returns the counters of the queues on which the guest receives, in their order; none while the vNIC is
// disconnected.
func (v *VNIC) Queues() (all []QueueStats) {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	if v.port == nil {
		return nil
	}
	for _, q := range v.port.tx {
		q.mu.Lock()
		all = append(all, q.count)
		q.mu.Unlock()
	}
	return all
}

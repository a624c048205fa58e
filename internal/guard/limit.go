package guard

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	// MaxAddresses is the largest limit of addresses.
	MaxAddresses = 4096

	// DefaultIdle is how long an address that is not used counts. It is the lifetime of a
	// binding in FCFS SAVI (RFC 6620, DEFAULT_LT).
	DefaultIdle = 5 * time.Minute
)

// LimitConfig configures a Limit.
type LimitConfig struct {
	// Max is how many addresses the guest may use at a time, 1 … MaxAddresses. IPv4 and IPv6
	// count alike, link-local addresses too: an IPv6 guest needs two at least, with temporary
	// addresses (RFC 8981) about eight.
	Max int

	// Idle is how long an address counts after its last use; 0 means DefaultIdle. It is kept in
	// whole seconds.
	Idle time.Duration

	// Static addresses do not count. Prefixes must be masked.
	Static []netip.Prefix
}

// Limit learns the IP addresses that a guest uses, from the source of packets and from the claims of ARP
// and Neighbor Discovery, and refuses more than a number of them. It takes memory for that many when it is
// made, and none afterwards. May be used by several goroutines at once; addresses that are known are found
// without a lock.
type Limit struct {
	max    int
	idle   uint32 // seconds
	static addrSet
	key    [2]uint64 // of the hash, so that the guest cannot choose addresses that collide
	mask   uint64    // of indices; half of the slots stay free

	slots []slot
	moves atomic.Uint32 // odd while slots are moved; moved since, if another number

	mu    sync.Mutex // to write to slots, but for slot.used
	count int
	swept uint32
	spare []entry
}

// slot holds an address; none while used is 0.
type slot struct {
	hi, lo atomic.Uint64
	used   atomic.Uint32 // seconds when last used, from 1
}

type entry struct {
	addr addr6
	used uint32
}

// NewLimit makes a Limit that has learned nothing.
func NewLimit(c *LimitConfig) (*Limit, error) {
	idle := c.Idle
	if idle == 0 {
		idle = DefaultIdle
	}
	switch {
	case c.Max < 1 || c.Max > MaxAddresses:
		return nil, fmt.Errorf("limit of %d addresses is out of 1–%d", c.Max, MaxAddresses)
	case idle < time.Second || idle > 1000*time.Hour:
		return nil, fmt.Errorf("idle time %v of addresses is out of 1s–1000h", idle)
	}
	l := &Limit{max: c.Max, idle: uint32(idle / time.Second), key: [2]uint64{rand.Uint64(), rand.Uint64()}}
	if err := l.static.add(c.Static); err != nil {
		return nil, err
	}
	l.static.normalize()
	n := 1 << bits.Len(uint(2*c.Max-1))
	l.mask = uint64(n - 1)
	l.slots = make([]slot, n)
	l.spare = make([]entry, 0, c.Max)
	return l, nil
}

// Admit reports whether the frame f, whose head is parsed in h, comes with addresses that the guest uses
// already or may use in addition, and learns them. It is for frames that Program.Check has let pass. now
// is the time since any fixed moment.
//
// 0.0.0.0, :: and groups are no addresses of a station and do not count. Refused is, too, what could claim
// an address out of sight.
func (l *Limit) Admit(f *ports.Frame, h *header.Header, now time.Duration) bool {
	own, claimed, ok := l.addresses(f, h)
	return ok && (own == addr6{} || l.use(own, now)) && (claimed == addr6{} || l.use(claimed, now))
}

// Peek returns what Admit would, and learns nothing.
func (l *Limit) Peek(f *ports.Frame, h *header.Header, now time.Duration) bool {
	own, claimed, ok := l.addresses(f, h)
	if !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unknown := 0
	for i, a := range [...]addr6{own, claimed} {
		if a == (addr6{}) || i > 0 && a == own {
			continue
		}
		if _, used := l.find(a); used == 0 {
			unknown++
		}
	}
	return unknown == 0 || l.count+unknown <= l.max || l.count-l.idlers(uint32(now/time.Second)+1)+unknown <= l.max
}

// idlers returns how many addresses sweep would remove.
func (l *Limit) idlers(t uint32) (n int) {
	if l.swept == t {
		return 0
	}
	for i := range l.slots {
		if used := l.slots[i].used.Load(); used != 0 && l.expired(used, t) {
			n++
		}
	}
	return n
}

// addresses returns the addresses with which a frame comes, as far as they count, and :: for none: its own, and one
// that it claims beside that. ok is unset when there may be one out of sight.
func (l *Limit) addresses(f *ports.Frame, h *header.Header) (own, claimed addr6, ok bool) {
	head := inSight(f)
	at := int(h.L3)
	switch {
	case h.Flags&header.IPv4 != 0:
		return l.counted4(word32(head, at+12)), claimed, true
	case h.Flags&header.IPv6 != 0:
		claimed, ok = claim6(h, head)
		return l.counted6(load6(head, at+8)), l.counted6(claimed), ok
	case h.Flags&header.ARP != 0:
		sender := word32(head, at+arpSender)
		if sender == 0 {
			sender = word32(head, at+arpTarget) // a probe, RFC 5227, section 1.1
		}
		return l.counted4(sender), claimed, true
	case h.Reason == header.BadARP || h.Reason == header.TooManyTags:
		return own, claimed, false // stations may understand what the parser does not
	}
	return own, claimed, !encapsulated(f, h, head)
}

// claim6 returns the address that a message of Neighbor Discovery claims beside its source: the target
// of an advertisement, or of a solicitation from :: (RFC 4862, section 5.4.2). It is :: when there is
// none; ok is unset when there may be one out of sight.
func claim6(h *header.Header, head []byte) (a addr6, ok bool) {
	if h.Reason == header.BadExtension || h.Reason == header.BeyondHead {
		return a, false
	}
	at := int(h.L4)
	if h.Proto != header.ICMPv6 || at == 0 {
		return a, true
	}
	switch head[at] {
	case icmpNeighborSolicitation:
		if load6(head, int(h.L3)+8) != (addr6{}) {
			return a, true
		}
	case icmpNeighborAdvertisement:
	default:
		return a, true
	}
	if at+ndNeighborOptions > len(head) {
		return a, false
	}
	return load6(head, at+ndTarget), true
}

// mapped4 is what IPv4 addresses begin with in IPv6 (RFC 4291, section 2.5.5.2).
const mapped4 = 0xffff << 32

// counted4 returns a as it is counted, :: if it is not.
func (l *Limit) counted4(a uint32) addr6 {
	if a < unicast4.first || a > unicast4.last || l.static.has4(a) {
		return addr6{}
	}
	return addr6{0, mapped4 | uint64(a)}
}

func (l *Limit) counted6(a addr6) addr6 {
	if a.multicast() || l.static.has6(a) {
		return addr6{}
	}
	return a
}

// use marks a as used now and reports whether it may be.
func (l *Limit) use(a addr6, now time.Duration) bool {
	t := uint32(now/time.Second) + 1
	moves := l.moves.Load()
	if s, used := l.find(a); used != 0 && moves&1 == 0 && l.moves.Load() == moves {
		if used != t {
			s.used.CompareAndSwap(used, t) // fails when the slot has just been given to another
		}
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, used := l.find(a)
	if used == 0 {
		if l.count == l.max {
			if !l.sweep(t) {
				return false
			}
			s, _ = l.find(a)
		}
		l.count++
		s.hi.Store(a.hi)
		s.lo.Store(a.lo)
	}
	s.used.Store(t)
	return true
}

// find returns the slot of a, or the free one where it would be, whose time of use is 0.
func (l *Limit) find(a addr6) (s *slot, used uint32) {
	hi, lo := bits.Mul64(a.hi^l.key[0], a.lo^l.key[1])
	for i := hi ^ lo ^ hi>>32; ; i++ {
		s = &l.slots[i&l.mask]
		if used = s.used.Load(); used == 0 || s.hi.Load() == a.hi && s.lo.Load() == a.lo {
			return s, used
		}
	}
}

// sweep removes the addresses that have been idle for too long and reports whether there were any. It
// does so once a second at most, so that a guest which tries many addresses causes no work.
func (l *Limit) sweep(t uint32) bool {
	if l.swept == t {
		return false
	}
	l.swept = t
	keep := l.spare[:0]
	for i := range l.slots {
		s := &l.slots[i]
		if used := s.used.Load(); used != 0 && !l.expired(used, t) {
			keep = append(keep, entry{addr6{s.hi.Load(), s.lo.Load()}, used})
		}
	}
	if len(keep) == l.count {
		return false
	}
	l.moves.Add(1)
	for i := range l.slots {
		l.slots[i].used.Store(0)
	}
	for _, e := range keep {
		s, _ := l.find(e.addr)
		s.hi.Store(e.addr.hi)
		s.lo.Store(e.addr.lo)
		s.used.Store(e.used)
	}
	l.moves.Add(1)
	l.count = len(keep)
	return true
}

func (l *Limit) expired(used, t uint32) bool { return int32(t-used) > int32(l.idle) }

// Append appends the addresses that are in use to addrs, in no order.
func (l *Limit) Append(addrs []netip.Addr, now time.Duration) []netip.Addr {
	t := uint32(now/time.Second) + 1
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.slots {
		s := &l.slots[i]
		if used := s.used.Load(); used == 0 || l.expired(used, t) {
			continue
		}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], s.hi.Load())
		binary.BigEndian.PutUint64(b[8:], s.lo.Load())
		addrs = append(addrs, netip.AddrFrom16(b).Unmap())
	}
	return addrs
}

package acl

import "math/bits"

// conn is a tracked connection: two cache lines, no pointers.
type conn struct {
	flow
	next  uint32 // in the chain of its bucket; a reference
	seen  uint32 // tick of the last packet
	epoch uint32 // of the policy that admitted it
	rule  int32  // in Config.Extended, that admitted it

	state        connState
	flags        connFlags
	scale        [2]uint8 // of TCP windows, by side
	older, newer uint32   // in the queue of what may be evicted; references
	idle         uint32   // ticks until it is forgotten when established
	meters       [2]int32 // that its packets count at, by direction
	sides        [2]tcpSide
	complete     uint32 // acknowledgment that completes the handshake
}

// connState is how far a connection has got.
type connState uint8

const (
	unanswered  connState = iota // not TCP: nothing has come back
	answered                     // not TCP
	established                  // TCP, and so are the following
	synSent
	synReceived
	halfClosed // one side has sent a FIN
	closing    // both have
	reset

	numStates
)

// evictable reports whether a connection in this state makes room for a new one.
func (s connState) evictable() bool {
	return s != answered && s != established && s != halfClosed
}

type connFlags uint8

const (
	openedIn  connFlags = 1 << iota // the first packet was received by the VM
	deniedOut                       // by a basic rule
	deniedIn
	finOfOpener // TCP: has been sent
	finOfOther
	pickedUp // TCP: windows are not known
	offered  // TCP: the opener said that it scales windows
)

// opener returns the direction of the first packet.
func (c *conn) opener() Direction {
	if c.flags&openedIn != 0 {
		return In
	}
	return Out
}

// expired reports whether the connection is to be forgotten.
func (c *conn) expired(p *Policy, now uint32) bool {
	timeout := p.timeouts[c.state]
	if timeout == 0 {
		timeout = c.idle
	}
	return int32(now-c.seen) > int32(timeout)
}

// forgettable reports whether the connection takes up room for nothing.
func (c *conn) forgettable(p *Policy, now uint32) bool { return !p.tracks || c.expired(p, now) }

const (
	blockConns  = 32  // 4 KiB
	blockHeads  = 256 // 1 KiB
	maxGroup    = 64  // blocks allocated at once
	bucketsEach = 2   // buckets kept for each connection
)

// table holds connections by flow. A reference to one is its place plus one; 0 is none. They lie without
// gaps in blocks that are never moved, chained from buckets. The number of buckets follows that of the
// connections one by one (linear hashing: Litwin, VLDB 1980), so no packet waits for a table to be
// rebuilt, and what is empty is given back.
type table struct {
	blocks  []*[blockConns]conn
	heads   []*[blockHeads]uint32
	recent  *recent // when there are connections
	count   int
	buckets uint32
	mask    uint32

	oldest, newest uint32 // queue of what may be evicted, in the order of becoming so
	cursor         int    // of the sweep
}

func (t *table) at(ref uint32) *conn {
	i := ref - 1
	return &t.blocks[i/blockConns][i%blockConns]
}

func (t *table) head(hash uint32) *uint32 {
	i := hash & t.mask
	if i >= t.buckets {
		i &= t.mask >> 1
	}
	return &t.heads[i/blockHeads][i%blockHeads]
}

// find returns the connection of a flow and its reference, or nil.
func (t *table) find(f *flow) (*conn, uint32) {
	if t.count == 0 {
		return nil, 0
	}
	for ref := *t.head(f.hash); ref != 0; {
		c := t.at(ref)
		if c.tail == f.tail && c.addr[0] == f.addr[0] && c.flow.equal(f) {
			return c, ref
		}
		ref = c.next
	}
	return nil, 0
}

// recent holds connections of IPv4 that packets came for lately, by a hash that is quick and not keyed:
// what collides there is found in the table. A connection that is removed leaves zeros behind, which no
// packet with ports has.
type recent [recentConns]*conn

const recentConns = 512 // 4 KiB

func (r *recent) place(addrs, tail uint64) **conn {
	const golden = 0x9e3779b97f4a7c15
	return &r[(addrs^bits.RotateLeft64(tail, 24))*golden>>(64-9)%recentConns]
}

// find4 returns the connection of a packet of IPv4 with ports, or nil. It has none of the recent ones.
func (t *table) find4(addrs, tail uint64, key *hashKey) *conn {
	if t.count == 0 {
		return nil
	}
	for ref := *t.head(key.hash4(addrs, tail)); ref != 0; {
		c := t.at(ref)
		if c.is4(addrs, tail) {
			*t.recent.place(addrs, tail) = c
			return c
		}
		ref = c.next
	}
	return nil
}

func (c *conn) is4(addrs, tail uint64) bool {
	return c.tail == tail && c.addr[0] == addrs && c.family == v4
}

// insert adds a connection that is not there and returns its reference.
func (t *table) insert(f *flow, s connState) uint32 {
	if t.count == len(t.blocks)*blockConns {
		t.addBlocks()
	}
	for int(t.buckets) < bucketsEach*(t.count+1) {
		t.split()
	}
	if t.recent == nil {
		t.recent = new(recent)
	}
	t.count++
	ref := uint32(t.count)
	c := t.at(ref)
	head := t.head(f.hash)
	*c = conn{flow: *f, next: *head, state: s}
	*head = ref
	if s.evictable() {
		t.enqueue(ref, c)
	}
	return ref
}

func (t *table) addBlocks() {
	n := min(max(1, len(t.blocks)/4), maxGroup)
	group := make([]conn, n*blockConns)
	for i := range n {
		t.blocks = append(t.blocks, (*[blockConns]conn)(group[i*blockConns:]))
	}
}

// split adds a bucket, which takes part of another.
func (t *table) split() {
	n := t.buckets
	if int(n) == len(t.heads)*blockHeads {
		t.heads = append(t.heads, new([blockHeads]uint32))
	}
	if n == 0 { // the first ones are empty
		t.buckets, t.mask = blockHeads, blockHeads-1
		return
	}
	t.buckets++
	if n&(n-1) == 0 {
		t.mask = 2*n - 1
	}
	from := n & (t.mask >> 1)
	stay, move := &t.heads[from/blockHeads][from%blockHeads], &t.heads[n/blockHeads][n%blockHeads]
	for ref := *stay; ref != 0; {
		c := t.at(ref)
		next := c.next
		if c.hash&t.mask == n {
			*move = ref
			move = &c.next
		} else {
			*stay = ref
			stay = &c.next
		}
		ref = next
	}
	*stay, *move = 0, 0
}

// merge gives the last bucket's chain to the one it was split from.
func (t *table) merge() {
	t.buckets--
	n := t.buckets
	from := n & (t.mask >> 1)
	if n&(n-1) == 0 {
		t.mask = n - 1
	}
	end := &t.heads[from/blockHeads][from%blockHeads]
	for *end != 0 {
		end = &t.at(*end).next
	}
	last := &t.heads[n/blockHeads][n%blockHeads]
	*end, *last = *last, 0
	if int(n) == (len(t.heads)-1)*blockHeads {
		t.heads[len(t.heads)-1] = nil
		t.heads = t.heads[:len(t.heads)-1]
	}
}

// link returns where the reference of a connection stands in its chain.
func (t *table) link(ref uint32) *uint32 {
	at := t.head(t.at(ref).hash)
	for *at != ref {
		at = &t.at(*at).next
	}
	return at
}

// remove forgets a connection. The last one takes its place, so pointers and references to both end.
func (t *table) remove(ref uint32) {
	c := t.at(ref)
	if c.state.evictable() {
		t.dequeue(c)
	}
	*t.link(ref) = c.next
	last := uint32(t.count)
	moved := t.at(last)
	if ref != last {
		*t.link(last) = ref
		if moved.state.evictable() {
			if moved.older != 0 {
				t.at(moved.older).newer = ref
			} else {
				t.oldest = ref
			}
			if moved.newer != 0 {
				t.at(moved.newer).older = ref
			} else {
				t.newest = ref
			}
		}
		*c = *moved
	}
	*moved = conn{}
	t.count--
	if t.buckets > blockHeads && int(t.buckets) > 4*bucketsEach*t.count {
		t.merge()
		t.merge()
	}
	if n := len(t.blocks); n > 1 && n-2 >= (t.count+blockConns-1)/blockConns { // one to spare
		t.blocks[n-1] = nil
		t.blocks = t.blocks[:n-1]
		clear(t.recent[:]) // what it refers to stays in memory
	}
}

// enqueue makes a connection the last of those that may be evicted.
func (t *table) enqueue(ref uint32, c *conn) {
	c.older, c.newer = t.newest, 0
	if t.newest != 0 {
		t.at(t.newest).newer = ref
	} else {
		t.oldest = ref
	}
	t.newest = ref
}

func (t *table) dequeue(c *conn) {
	if c.older != 0 {
		t.at(c.older).newer = c.newer
	} else {
		t.oldest = c.newer
	}
	if c.newer != 0 {
		t.at(c.newer).older = c.older
	} else {
		t.newest = c.older
	}
	c.older, c.newer = 0, 0
}

// setState changes the state of a connection, and with it whether it may be evicted.
func (t *table) setState(ref uint32, c *conn, s connState) {
	if was := c.state.evictable(); was != s.evictable() {
		if was {
			t.dequeue(c)
		} else {
			t.enqueue(ref, c)
		}
	}
	c.state = s
}

// sweep looks at n connections, going round, and forgets those that have expired. It returns how many.
func (t *table) sweep(p *Policy, now uint32, n int) (expired int) {
	for ; n > 0 && t.count > 0; n-- {
		if t.cursor >= t.count {
			t.cursor = 0
		}
		if t.at(uint32(t.cursor+1)).forgettable(p, now) {
			t.remove(uint32(t.cursor + 1))
			expired++
		} else {
			t.cursor++
		}
	}
	return expired
}

// sweepFinds reports whether sweep would forget any.
func (t *table) sweepFinds(p *Policy, now uint32, n int) bool {
	at := t.cursor
	for range min(n, t.count) {
		if at >= t.count {
			at = 0
		}
		if t.at(uint32(at+1)).forgettable(p, now) {
			return true
		}
		at++
	}
	return false
}

// farConns is the size of a table that no longer lies in the cache.
const farConns = 8192

// touch brings the first connection of the chain of a hash into the cache.
func (t *table) touch(hash uint32) uint64 {
	ref := *t.head(hash)
	if ref == 0 {
		return 0
	}
	c := t.at(ref)
	return c.tail + uint64(c.state)
}

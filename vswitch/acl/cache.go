package acl

// match is what the rules say of a packet by its header alone: indices of the basic rule that decides, of
// the extended rule, and of the meter; noRule where there is none.
type match struct {
	basic, extended, meter int32
}

// cached is a match that was found before: one cache line.
type cached struct {
	flow
	tag uint32 // the epoch of the policy and the direction; 0 in an empty slot
	match
}

const (
	cacheWays = 2
	minCache  = 64   // slots
	maxCache  = 4096 // 256 KiB
)

// cache spares the packets of flows that have no connection the search for their rules. What is not there
// is found again, so a slot belongs to whoever came last. It grows when slots change hands more often than
// there are.
type cache struct {
	slots   []cached
	changes int
	used    bool // since the last release
}

func cacheTag(epoch uint32, d Direction) uint32 { return epoch<<1 | uint32(d)>>1 }

func (c *cache) set(hash uint32) *[cacheWays]cached {
	return (*[cacheWays]cached)(c.slots[int(hash)&(len(c.slots)/cacheWays-1)*cacheWays:])
}

func (c *cache) find(f *flow, tag uint32) *match {
	if len(c.slots) == 0 {
		return nil
	}
	set := c.set(f.hash)
	for i := range set {
		if s := &set[i]; s.tail == f.tail && s.tag == tag && s.flow.equal(f) {
			c.used = true
			return &s.match
		}
	}
	return nil
}

func (c *cache) store(f *flow, tag uint32, m match) {
	c.used = true
	if len(c.slots) == 0 {
		c.slots = make([]cached, minCache)
	}
	set := c.set(f.hash)
	if set[1].tag>>1 == tag>>1 {
		if c.changes++; c.changes > len(c.slots) && len(c.slots) < maxCache {
			c.slots, c.changes = make([]cached, 4*len(c.slots)), 0
			set = c.set(f.hash)
		}
	}
	set[1] = set[0]
	set[0] = cached{*f, tag, m}
}

// release gives the memory back when nothing was stored since it was last called.
func (c *cache) release() {
	if !c.used {
		c.slots = nil
	}
	c.used, c.changes = false, 0
}

package overlay

import "sync/atomic"

// shards is into how many parts, by hash, the tables of records are divided to say what has changed.
const (
	shardBits = 12
	shards    = 1 << shardBits
)

func shardOf(hash uint64) uint16 { return uint16(hash >> (64 - shardBits)) }

// versions count the changes to each part of a table: once before the snapshot with the change is
// published, once after. So who has that snapshot sees that the part has changed, and while the count is
// odd nobody can tell which snapshot is the newest.
type versions [shards]atomic.Uint32

func (v *versions) count(touched []uint16) {
	for _, i := range touched {
		v[i].Add(1)
	}
}

// cache remembers what a worker looked up in a table, so that a frame of a busy flow costs the same
// however many records there are. What is in a part of the table that has changed is looked up again.
type cache [cacheSets][cacheWays]struct {
	hash    uint64
	version uint32
	valid   bool
	entry   *entry // nil when there is none
}

const (
	cacheSets = 1024 // with the ways 128 KiB
	cacheWays = 4
)

func (c *cache) get(hash uint64, version uint32) (n *entry, ok bool) {
	if c == nil {
		return nil, false
	}
	set := &c[hash%cacheSets]
	for i := range set {
		if s := &set[i]; s.hash == hash && s.version == version && s.valid {
			return s.entry, true
		}
	}
	return nil, false
}

func (c *cache) put(hash uint64, version uint32, n *entry) {
	set := &c[hash%cacheSets]
	copy(set[1:], set[:])
	set[0].hash, set[0].version, set[0].entry, set[0].valid = hash, version, n, true
}

// view is a snapshot as a worker sees it, or somebody without caches.
type view struct {
	snap *snapshot
	e    *Engine
	ca   *cache
	mac  *cache
}

// record returns the record of a customer address, or nil.
func (v *view) record(vsid VSID, a ca) *entry {
	h := hashCA(uint32(vsid), a)
	version := v.e.changedCA[shardOf(h)].Load()
	if n, ok := v.ca.get(h, version); ok && (n == nil || n.lo == a.lo && n.hi == a.hi && n.id() == vsid) {
		return n
	}
	n := v.snap.byCA.hashedCA(h, vsid, a)
	if v.ca != nil && v.newest(version) {
		v.ca.put(h, version, n)
	}
	return n
}

// recordOfMAC returns the record that stands for a MAC address, or nil.
func (v *view) recordOfMAC(vsid VSID, mac uint64) *entry {
	h := hashMAC(uint32(vsid), mac)
	version := v.e.changedMAC[shardOf(h)].Load()
	if n, ok := v.mac.get(h, version); ok && (n == nil || (n.mac^mac)>>16 == 0 && n.id() == vsid) {
		return n
	}
	n := v.snap.byMAC.hashedMAC(h, vsid, mac)
	if v.mac != nil && v.newest(version) {
		v.mac.put(h, version, n)
	}
	return n
}

// newest reports whether all changes up to a version are in the snapshot, and no others of that part.
func (v *view) newest(version uint32) bool { return version&1 == 0 && v.e.snap.Load() == v.snap }

// resolve returns the record of the MAC that has a customer address in a subnet, or nil. A wildcard is
// no answer.
func (v *view) resolve(vsid VSID, a ca) *entry {
	r := v.record(vsid, a)
	if (r == nil || r.typ() == Dynamic) && v.snap.learned.count > 0 {
		if l := v.snap.learned.lookupCA(vsid, a); l != nil {
			if m := v.recordOfMAC(vsid, l.mac&^0xffff); m != nil {
				return m
			}
		}
	}
	return r
}

// receiver is resolve with the wildcard for what nobody has.
func (v *view) receiver(vsid VSID, a ca) *entry {
	if r := v.resolve(vsid, a); r != nil {
		return r
	}
	return v.record(vsid, wildcard(a))
}

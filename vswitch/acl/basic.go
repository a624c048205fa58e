package acl

import (
	"slices"

	"github.com/hvswitch/hvswitch/ports"
)

// basicIP holds the basic rules for the addresses of one family in one direction.
type basicIP struct {
	judges, meters addressRules
}

// addressRules finds the rule with the longest match on either address.
type addressRules struct {
	used          bool
	local, remote longest
	rules         []BasicRule
}

// longest maps an address to the rule with the longest prefix, as its index plus one; 0 is none.
type longest struct {
	trie   // of IPv4
	search // of IPv6
}

// find returns the index in Config.Basic of the rule that decides, or noRule. Of two matches of one
// length one that denies decides before one that allows, else the remote one.
func (r *addressRules) find(f *flow) int32 {
	if !r.used {
		return noRule
	}
	var local, remote uint32
	if f.family == v4 {
		local = r.local.trie.find(uint32(f.addr[0] >> 32))
		remote = r.remote.trie.find(uint32(f.addr[0]))
	} else {
		local = r.local.search.find(f.addr[0], f.addr[1])
		remote = r.remote.search.find(f.addr[2], f.addr[3])
	}
	if local == 0 || remote == 0 {
		return int32(local|remote) - 1
	}
	l, m := &r.rules[local-1], &r.rules[remote-1]
	if n, k := l.length(), m.length(); n > k || n == k && l.Action == Deny && m.Action != Deny {
		return int32(local) - 1
	}
	return int32(remote) - 1
}

// length is that of the prefix; any address is shorter than all of one family.
func (r *BasicRule) length() int {
	if r.Any != 0 {
		return -1
	}
	return r.Prefix.Bits()
}

// compileAddressRules compiles the rules for IP that include selects.
func compileAddressRules(rules []BasicRule, f family, include func(*BasicRule) bool) (a addressRules) {
	a.rules = rules
	for i := range rules {
		r := &rules[i]
		a.used = a.used || include(r) && (r.Any == AnyIP || r.Prefix.IsValid() && r.Prefix.Addr().Is4() == (f == v4))
	}
	if a.used {
		a.local = compileLongest(rules, f, func(r *BasicRule) bool { return r.Side == Local && include(r) })
		a.remote = compileLongest(rules, f, func(r *BasicRule) bool { return r.Side == Remote && include(r) })
	}
	return a
}

func compileLongest(rules []BasicRule, f family, include func(*BasicRule) bool) (l longest) {
	type open struct {
		span
		value uint32
	}
	var list []open
	var stack []open
	for i := range rules {
		switch r := &rules[i]; {
		case !include(r):
		case r.Any == AnyIP:
			stack = []open{{value: uint32(i + 1)}} // to the end of all values
		case r.Prefix.IsValid() && r.Prefix.Addr().Is4() == (f == v4):
			list = append(list, open{spanOfPrefix(r.Prefix), uint32(i + 1)})
		}
	}
	if len(stack) == 0 {
		stack = []open{{}}
	}
	slices.SortFunc(list, func(a, b open) int {
		if c := a.first.compare(b.first); c != 0 {
			return c
		}
		return rules[a.value-1].Prefix.Bits() - rules[b.value-1].Prefix.Bits()
	})
	var s steps
	emit := func(at point, value uint32) {
		if f == v4 && at.lo >= 1<<32 {
			return
		}
		if n := len(s.first); n > 0 && s.first[n-1] == at {
			s.value[n-1] = value
			return
		}
		s.add(at, value)
	}
	// Prefixes nest, so what is open here is a stack.
	closeUpTo := func(at point, all bool) {
		for {
			top := stack[len(stack)-1]
			if top.isMax() || !all && top.end.compare(at) > 0 {
				return
			}
			stack = stack[:len(stack)-1]
			emit(top.end, stack[len(stack)-1].value)
		}
	}
	emit(point{}, stack[0].value)
	for _, o := range list {
		closeUpTo(o.first, false)
		emit(o.first, o.value)
		stack = append(stack, o)
	}
	closeUpTo(point{}, true)
	if f == v4 {
		l.trie = s.trie(32)
	} else {
		l.search = search{slices.Clip(s.first), slices.Clip(s.value)}
	}
	return l
}

// basicMAC holds the basic rules for MAC addresses in one direction.
type basicMAC struct {
	used          bool
	local, remote macTable
	rules         []BasicRule
}

// macTable maps MAC addresses to rules by open addressing.
type macTable struct {
	any   int32
	slots []macSlot // a power of two, at most half full
}

type macSlot struct {
	mac  uint64 // with a bit that tells it from an empty slot
	rule int32
}

const macPresent = 1 << 48

func loadMAC(b []byte) uint64 { return be64(b) >> 16 }

func (t *macTable) home(mac uint64) int {
	return int(mac*0x9e3779b97f4a7c15>>32) & (len(t.slots) - 1)
}

func (t *macTable) find(mac uint64) int32 {
	if len(t.slots) > 0 {
		for i := t.home(mac); t.slots[i].mac != 0; i = (i + 1) & (len(t.slots) - 1) {
			if t.slots[i].mac == mac|macPresent {
				return t.slots[i].rule
			}
		}
	}
	return t.any
}

func compileMACTable(rules []BasicRule, include func(*BasicRule) bool) macTable {
	t := macTable{any: noRule}
	var list []int32
	for i := range rules {
		switch r := &rules[i]; {
		case !include(r):
		case r.Any == AnyMAC:
			t.any = int32(i)
		case r.MAC != ports.MAC{}:
			list = append(list, int32(i))
		}
	}
	if len(list) == 0 {
		return t
	}
	size := 4
	for size < 2*len(list) {
		size *= 2
	}
	t.slots = make([]macSlot, size)
	for _, rule := range list {
		b := [8]byte{}
		copy(b[:], rules[rule].MAC[:])
		mac := loadMAC(b[:])
		i := t.home(mac)
		for t.slots[i].mac != 0 {
			i = (i + 1) & (size - 1)
		}
		t.slots[i] = macSlot{mac | macPresent, rule}
	}
	return t
}

func compileMAC(rules []BasicRule, d Direction) (m basicMAC) {
	side := func(s Side) func(*BasicRule) bool {
		return func(r *BasicRule) bool { return r.Side == s && r.Direction&d != 0 }
	}
	m.rules = rules
	m.local = compileMACTable(rules, side(Local))
	m.remote = compileMACTable(rules, side(Remote))
	m.used = m.local.any != noRule || m.remote.any != noRule || len(m.local.slots)+len(m.remote.slots) > 0
	return m
}

// find returns the index in Config.Basic of the rule that decides on a frame, or noRule.
func (m *basicMAC) find(local, remote uint64) int32 {
	l, r := m.local.find(local), m.remote.find(remote)
	if l == noRule || r == noRule {
		return max(l, r)
	}
	exactL, exactR := m.rules[l].Any == 0, m.rules[r].Any == 0
	if exactL && !exactR || exactL == exactR && m.rules[l].Action == Deny && m.rules[r].Action != Deny {
		return l
	}
	return r
}

// compileBasicIP makes the tables of one direction and family.
func compileBasicIP(rules []BasicRule, d Direction, f family) *basicIP {
	return &basicIP{
		judges: compileAddressRules(rules, f, func(r *BasicRule) bool { return r.Direction&d != 0 && r.Action != Meter }),
		meters: compileAddressRules(rules, f, func(r *BasicRule) bool { return r.Direction&d != 0 && r.Action == Meter }),
	}
}

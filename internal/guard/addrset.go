package guard

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// addr6 is an IPv6 address as a number.
type addr6 struct{ hi, lo uint64 }

func (a addr6) compare(b addr6) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

func (a addr6) less(b addr6) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a addr6) multicast() bool { return a.hi>>56 == 0xff }

// range4 and range6 are addresses from the first to the last.
type (
	range4 struct{ first, last uint32 }
	range6 struct{ first, last addr6 }
)

// unicast4 and unicast6 are all addresses that a station can have: not the unspecified one, no groups, not
// the reserved block with the broadcast address.
var (
	unicast4 = range4{1, 0xdfffffff}
	unicast6 = range6{addr6{0, 1}, addr6{0xfeff_ffff_ffff_ffff, ^uint64(0)}}
)

var (
	linkLocal4 = range4{169<<24 | 254<<16 | 1<<8, 169<<24 | 254<<16 | 254<<8 | 255} // RFC 3927, section 2.1
	linkLocal6 = range6{addr6{0xfe80 << 48, 0}, addr6{0xfe80 << 48, ^uint64(0)}}    // RFC 4291, section 2.5.6
)

// linkLocalOf returns the link-local address that is formed from a MAC (RFC 4291, appendix A).
func linkLocalOf(mac uint64) addr6 {
	const universal = 1 << 57 // the bit that is inverted
	return addr6{0xfe80 << 48, (mac>>24<<40 | 0xfffe<<24 | mac&0xffffff) ^ universal}
}

// addrSet is a set of unicast addresses: sorted ranges, so that finding one takes a few comparisons
// however many there are.
type addrSet struct {
	v4 []range4
	v6 []range6
}

func everyAddr() addrSet { return addrSet{[]range4{unicast4}, []range6{unicast6}} }

// add adds the unicast addresses of prefixes. The set must be normalized afterwards.
func (s *addrSet) add(prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			return fmt.Errorf("assigned address %v is none", p)
		case p.Addr().Is4In6():
			return fmt.Errorf("assigned address %v is IPv4 in the form of IPv6: %v", p, p.Addr().Unmap())
		case p != p.Masked():
			return fmt.Errorf("assigned address %v: %v/%d is one address, %v is a subnet", p, p.Addr(), p.Addr().BitLen(), p.Masked())
		case p.Addr().IsMulticast() || p.IsSingleIP() && p.Addr().IsUnspecified():
			return fmt.Errorf("assigned address %v: no station can have it", p)
		}
		if p.Addr().Is4() {
			a := p.Addr().As4()
			first := binary.BigEndian.Uint32(a[:])
			s.v4 = append(s.v4, range4{first, first | uint32(1<<(32-p.Bits())-1)})
			continue
		}
		first := addr6Of(p.Addr())
		last := first
		if n := p.Bits(); n < 64 {
			last.hi |= 1<<(64-n) - 1
			last.lo = ^uint64(0)
		} else {
			last.lo |= 1<<(128-n) - 1
		}
		s.v6 = append(s.v6, range6{first, last})
	}
	return nil
}

func addr6Of(a netip.Addr) addr6 {
	b := a.As16()
	return load6(b[:], 0)
}

// normalize clips the ranges to unicast, sorts them and joins those that overlap.
func (s *addrSet) normalize() {
	v4 := s.v4
	s.v4 = nil
	slices.SortFunc(v4, func(a, b range4) int { return cmp.Compare(a.first, b.first) })
	for _, r := range v4 {
		r.first, r.last = max(r.first, unicast4.first), min(r.last, unicast4.last)
		if n := len(s.v4); n > 0 && r.first <= s.v4[n-1].last {
			s.v4[n-1].last = max(r.last, s.v4[n-1].last)
		} else if r.first <= r.last {
			s.v4 = append(s.v4, r)
		}
	}
	v6 := s.v6
	s.v6 = nil
	slices.SortFunc(v6, func(a, b range6) int { return a.first.compare(b.first) })
	for _, r := range v6 {
		if r.first.less(unicast6.first) {
			r.first = unicast6.first
		}
		if unicast6.last.less(r.last) {
			r.last = unicast6.last
		}
		if n := len(s.v6); n > 0 && !s.v6[n-1].last.less(r.first) {
			if s.v6[n-1].last.less(r.last) {
				s.v6[n-1].last = r.last
			}
		} else if !r.last.less(r.first) {
			s.v6 = append(s.v6, r)
		}
	}
}

func (s *addrSet) has4(a uint32) bool {
	rs := s.v4
	for len(rs) > 1 {
		if m := len(rs) / 2; a < rs[m].first {
			rs = rs[:m]
		} else {
			rs = rs[m:]
		}
	}
	return len(rs) == 1 && rs[0].first <= a && a <= rs[0].last
}

func (s *addrSet) has6(a addr6) bool {
	rs := s.v6
	for len(rs) > 1 {
		if m := len(rs) / 2; a.less(rs[m].first) {
			rs = rs[:m]
		} else {
			rs = rs[m:]
		}
	}
	return len(rs) == 1 && !a.less(rs[0].first) && !rs[0].last.less(a)
}

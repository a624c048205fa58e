package vswitch

import (
	"fmt"
	"slices"
	"sync/atomic"
)

// guestTeam is the vNICs of a switch of which a guest makes a team: each may send from the addresses of all, and
// where an address is used is learned.
type guestTeam struct {
	macs atomic.Pointer[[]uint64] // as loaded, in order
}

// teamKey is what a guestTeam is known by on a host.
type teamKey struct{ sw, name string }

func (c *VNICConfig) teamKey() teamKey { return teamKey{c.Switch, c.GuestTeam} }

// checkTeam says what is wrong with the GuestTeam of c.
func (v *VNIC) checkTeam(c *VNICConfig) error {
	switch {
	case len(c.GuestTeam) > maxName:
		return fmt.Errorf("vNIC %q: guest team %q: a name has at most %d bytes: %w", v.name, c.GuestTeam, maxName, ErrInvalid)
	case c.GuestTeam != "" && c.VSID != 0:
		return fmt.Errorf("vNIC %q: guest team %q: a vNIC with VSID %d has the address of its records only: %w", v.name, c.GuestTeam, c.VSID, ErrInvalid)
	}
	return nil
}

// teamOf returns the team of a configuration, or nil.
func (h *Host) teamOf(c *VNICConfig) *guestTeam {
	if c.GuestTeam == "" {
		return nil
	}
	t := h.teams[c.teamKey()]
	if t == nil {
		t = new(guestTeam)
		t.macs.Store(new([]uint64))
		h.teams[c.teamKey()] = t
	}
	return t
}

// regroup brings the team of a configuration up to date. v is a vNIC that the host does not know yet, or nil.
func (h *Host) regroup(c *VNICConfig, v *VNIC) {
	if c.GuestTeam == "" {
		return
	}
	var macs []uint64
	if v != nil {
		macs = append(macs, loadMAC(v.mac))
	}
	for _, o := range h.vnics {
		if o.cfg.teamKey() == c.teamKey() {
			macs = append(macs, loadMAC(o.mac))
		}
	}
	slices.Sort(macs)
	h.teamOf(c).macs.Store(&macs)
	if len(macs) == 0 {
		delete(h.teams, c.teamKey())
	}
}

// teamSource drops frames whose source is not an address of the team.
func teamSource(t *guestTeam) func(*burst) {
	return func(b *burst) {
		macs := *t.macs.Load()
		last := uint64(0)
		for i := range b.meta {
			m := &b.meta[i]
			if m.drop != 0 || m.src == last {
				continue
			}
			if _, found := slices.BinarySearch(macs, m.src); found {
				last = m.src
				continue
			}
			m.drop = DropSpoofedSource
			if m.src == 0 || m.src&groupBit != 0 {
				m.drop = DropInvalidSource
			}
		}
	}
}

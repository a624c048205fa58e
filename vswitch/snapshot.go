package vswitch

// snapshot is the configuration of a switch as the data path sees it. It never changes: a change of
// configuration makes a new one from it and publishes that, so a frame sees the old configuration or
// the new one, and readers take no lock.
type snapshot struct {
	ports portTable

	// Who receives what is flooded, each for untagged frames and for the rest of the VLANs.
	untagged, tagged floodSets
}

// floodSets are the members of a broadcast domain.
type floodSets struct {
	group   portSet // receive broadcast and multicast
	unknown portSet // receive unknown unicast
}

func (s *snapshot) flood(vid uint16) *floodSets {
	if vid == 0 {
		return &s.untagged
	}
	return &s.tagged
}

// with returns the snapshot with port p in it, in place of one of the same index.
func (s *snapshot) with(p *portView) *snapshot {
	n := *s
	n.ports = n.ports.with(p.index, p)
	n.untagged = n.untagged.with(p.index, true, !p.blockUnknown)
	n.tagged = n.tagged.with(p.index, p.trunk, p.trunk && !p.blockUnknown)
	return &n
}

// without returns the snapshot without the port of that index.
func (s *snapshot) without(index int) *snapshot {
	n := *s
	n.ports = n.ports.with(index, nil)
	n.untagged = n.untagged.with(index, false, false)
	n.tagged = n.tagged.with(index, false, false)
	return &n
}

func (f floodSets) with(i int, group, unknown bool) floodSets {
	return floodSets{f.group.with(i, group), f.unknown.with(i, unknown)}
}

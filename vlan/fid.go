package vlan

// FIDs says which VLANs learn addresses together: VLANs of one filtering identifier (FID) share one
// table (shared VLAN learning, IEEE 802.1Q 8.8.8 and annex F). The secondary VLANs of a private VLAN
// share that of their primary VLAN, because a station in one of them sends in its secondary VLAN and
// is sent to in the primary one. Every other VLAN has a table of its own.
//
// FIDs never change. The zero FIDs and a nil *FIDs give each VLAN its own.
type FIDs struct {
	primary [reservedID + 1]uint16 // by secondary VLAN; 0 for others
}

// Of returns the FID of a VLAN, 0–4095: the id of its primary VLAN if it is a secondary one, its own
// otherwise. Bits above 12 are ignored, so that a TCI will do.
func (f *FIDs) Of(vid uint16) uint16 {
	vid &= vidMask
	if f != nil && f.primary[vid] != 0 {
		return f.primary[vid]
	}
	return vid
}

// with returns FIDs in which the ids are secondary VLANs of the primaries given, 0 meaning of none.
func (f *FIDs) with(primaries map[uint16]uint16) *FIDs {
	n := &FIDs{}
	if f != nil {
		*n = *f
	}
	for id, primary := range primaries {
		n.primary[id] = primary
	}
	return n
}

package vswitch

// onlySource drops frames whose source is not mac.
func onlySource(mac uint64) func(*burst) {
	return func(b *burst) {
		for i := range b.meta {
			m := &b.meta[i]
			if m.src != mac && m.drop == 0 {
				m.drop = DropSpoofedSource
				if m.src == 0 || m.src&groupBit != 0 {
					m.drop = DropInvalidSource
				}
			}
		}
	}
}

// validSource drops frames whose source cannot be the address of a station.
func validSource(b *burst) {
	for i := range b.meta {
		m := &b.meta[i]
		if (m.src == 0 || m.src&groupBit != 0) && m.drop == 0 {
			m.drop = DropInvalidSource
		}
	}
}

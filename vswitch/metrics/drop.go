package metrics

import "github.com/hvswitch/hvswitch/vswitch"

// drops exports what was dropped at a port.
func (s *scrape) drops(drops map[vswitch.DropReason]uint64, port []*label) {
	for r, n := range drops {
		s.drop(r, n, port)
	}
	if s.cfg.SparseDrops {
		return
	}
	for _, r := range s.allReasons {
		if _, occurred := drops[r]; !occurred {
			s.drop(r, 0, port)
		}
	}
}

func (s *scrape) drop(r vswitch.DropReason, frames uint64, port []*label) {
	labels := s.labels(port[0], port[1], s.reasons[r], port[2])
	s.send(s.portFamilies.dropped, float64(frames), labels)
}

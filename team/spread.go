package team

// buckets is how many parts the flows and vNICs of a team are cut into: enough for 32 members to get
// within 3 % of their share, few enough for a table to stay in the cache.
const buckets = 1024

// nobody stands for a member where there is none.
const nobody = 0xff

// spread says at which member each bucket is. Members are known by their slots.
type spread struct {
	home [buckets]uint8 // where it is when all members are well
	at   [buckets]uint8 // where it is now
}

func newSpread() spread {
	var s spread
	for i := range s.home {
		s.home[i], s.at[i] = nobody, nobody
	}
	return s
}

// settle finds homes in proportion to weights, and places with the members that are live. Buckets move
// only where they must.
func (s *spread) settle(weights *[MaxMembers]uint64, live uint32) {
	deal(&s.home, weights)
	var now [MaxMembers]uint64
	for slot, w := range weights {
		if live>>slot&1 != 0 {
			now[slot] = max(w, 1) // one that stands by is at home nowhere
		}
	}
	for b, home := range s.home {
		if home != nobody && live>>home&1 != 0 {
			s.at[b] = home
		}
	}
	place(&s.at, &now)
}

// deal gives each member its share of the buckets, those of others first.
func deal(table *[buckets]uint8, weights *[MaxMembers]uint64) {
	share := shares(weights)
	var has [MaxMembers]int
	for b, slot := range table {
		switch {
		case slot == nobody:
		case has[slot] < share[slot]:
			has[slot]++
		default:
			table[b] = nobody
		}
	}
	for b := range table {
		if table[b] != nobody {
			continue
		}
		// Whoever is furthest behind, so that neighbours are at different members.
		to := -1
		for slot := range share {
			if has[slot] < share[slot] && (to < 0 || (has[slot]+1)*share[to] < (has[to]+1)*share[slot]) {
				to = slot
			}
		}
		if to < 0 {
			return // nobody has a weight
		}
		table[b] = uint8(to)
		has[to]++
	}
}

// shares cuts the buckets in proportion to weights, by largest remainders.
func shares(weights *[MaxMembers]uint64) (share [MaxMembers]int) {
	var sum float64
	for _, w := range weights {
		sum += float64(w)
	}
	if sum == 0 {
		return share
	}
	left := buckets
	var rest [MaxMembers]float64
	for slot, w := range weights {
		exact := buckets * float64(w) / sum
		share[slot] = int(exact)
		rest[slot] = exact - float64(share[slot])
		left -= share[slot]
	}
	for ; left > 0; left-- {
		most := -1
		for slot, r := range rest {
			if weights[slot] > 0 && (most < 0 || r > rest[most]) {
				most = slot
			}
		}
		share[most]++
		rest[most] = -1
	}
	return share
}

// place gives buckets whose member has no weight to those that have the fewest for theirs.
func place(table *[buckets]uint8, weights *[MaxMembers]uint64) {
	var has [MaxMembers]uint64
	for _, slot := range table {
		if slot != nobody {
			has[slot]++
		}
	}
	for b, slot := range table {
		if slot != nobody && weights[slot] > 0 {
			continue
		}
		to := nobody
		for i, w := range weights {
			// has/weight, without dividing
			if w > 0 && (to == nobody || (has[i]+1)*weights[to] < (has[to]+1)*w) {
				to = i
			}
		}
		table[b] = uint8(to)
		if to != nobody {
			has[to]++
		}
	}
}
